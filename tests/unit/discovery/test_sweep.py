"""A sweep asks all at once; what one of them does is no other's business."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from fractions import Fraction

import pytest

from services.discovery import application
from services.discovery.application import Credential, Discovering, OrchestratorFailedError
from services.discovery.domain import Answer, Offer
from services.discovery.outgoing import Origin
from shared.bus import ServiceUnavailableError
from shared.clock import SetClock

pytestmark = pytest.mark.anyio

MODEL = "live-video-to-video/echo"
ORIGINS = [Origin.of(f"https://{name}.example") for name in ("one", "two", "three")]
ONE, TWO, THREE = ORIGINS
CREDENTIAL = Credential(b"\x01" * 20, b"\x02" * 65)
NOW = datetime(2031, 5, 17, 8, tzinfo=UTC)

type Behave = Callable[[Origin], Awaitable[Answer]]


async def well(origin: Origin) -> Answer:
    return Answer(origin.url, (Offer(MODEL, Fraction(5), None),))


async def badly(_: Origin) -> Answer:
    raise OrchestratorFailedError("no route")


async def never(_: Origin) -> Answer:
    await asyncio.Event().wait()
    raise AssertionError


async def absurdly(_: Origin) -> Answer:
    raise ZeroDivisionError


async def dearly(origin: Origin) -> Answer:
    return Answer(origin.url, (Offer(MODEL, Fraction(5), Fraction(4)),))


def everybody(behave: Behave) -> dict[Origin, Behave]:
    return dict.fromkeys(ORIGINS, behave)


class World:
    """Orchestrators that behave as they are told, a signer and a bucket."""

    def __init__(self) -> None:
        self.behaviour = everybody(well)
        self.asked: list[Origin] = []
        self.has_signer = True
        self.entries: list[dict[str, object]] = []

    async def ask(self, origin: Origin, credential: Credential) -> Answer:
        assert credential == CREDENTIAL
        self.asked.append(origin)
        return await self.behaviour[origin](origin)

    async def ask_signer(self) -> Credential:
        if not self.has_signer:
            raise ServiceUnavailableError("nobody answers")
        return CREDENTIAL

    async def put(self, key: str, value: bytes) -> None:
        assert key == "snapshot"
        self.entries.append(json.loads(value))

    def listed(self) -> list[str]:
        """The addresses of the last snapshot."""
        orchestrators = self.entries[-1]["orchestrators"]
        assert isinstance(orchestrators, list)
        return [one["address"] for one in orchestrators]

    def discovering(self, sweep_seconds: float = 20) -> Discovering:
        return Discovering(
            ORIGINS,
            self,
            self.ask_signer,
            self,
            SetClock(NOW),
            runner_ceiling=None,
            poll_seconds=1,
            sweep_seconds=sweep_seconds,
        )


@pytest.fixture
def world() -> World:
    return World()


async def test_everybody_is_listed_in_the_order_of_the_list(world: World) -> None:
    discovering = world.discovering()

    assert await discovering.sweep()

    assert world.listed() == [origin.url for origin in ORIGINS]
    assert world.entries[-1]["observed_at_ms"] == int(NOW.timestamp() * 1000)
    assert discovering.observed.is_set()


@pytest.mark.parametrize("behave", [badly, absurdly])
async def test_who_fails_is_left_out_until_he_answers_again(world: World, behave: Behave) -> None:
    discovering = world.discovering()
    world.behaviour[TWO] = behave
    await discovering.sweep()
    assert world.listed() == [ONE.url, THREE.url]

    world.behaviour[TWO] = well
    await discovering.sweep()
    assert world.listed() == [ONE.url, TWO.url, THREE.url]


async def test_who_does_not_answer_in_time_is_left_out(world: World) -> None:
    world.behaviour[ONE] = never

    await world.discovering(sweep_seconds=0.2).sweep()

    assert world.listed() == [TWO.url, THREE.url]


async def test_when_nobody_answers_the_bucket_keeps_what_it_has(world: World) -> None:
    discovering = world.discovering()
    await discovering.sweep()
    world.behaviour = everybody(badly)

    assert not await discovering.sweep()

    assert len(world.entries) == 1


async def test_when_nobody_is_eligible_nobody_is_listed(world: World) -> None:
    discovering = world.discovering()
    await discovering.sweep()
    world.behaviour = everybody(dearly)

    assert await discovering.sweep()

    assert world.listed() == []


async def test_before_the_signer_answered_nobody_is_asked(world: World) -> None:
    discovering = world.discovering()
    world.has_signer = False

    assert not await discovering.sweep()

    assert world.asked == []
    assert not discovering.observed.is_set()


async def test_while_the_signer_is_away_the_last_credential_will_do(world: World) -> None:
    discovering = world.discovering()
    await discovering.sweep()
    world.has_signer = False

    assert await discovering.sweep()


async def test_who_was_silent_is_asked_after_all_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application, "AT_ONCE_MAX", 1)
    world.behaviour[ONE] = never
    discovering = world.discovering(sweep_seconds=0.5)

    assert not await discovering.sweep()  # the first one took the only turn
    assert await discovering.sweep()

    assert world.asked == [ONE, TWO, THREE, ONE]
    assert world.listed() == [TWO.url, THREE.url]


async def test_it_sweeps_again_and_again(world: World) -> None:
    discovering = world.discovering()
    running = asyncio.create_task(discovering.run())
    async with asyncio.timeout(60):
        while len(world.entries) < 2:
            await asyncio.sleep(0.01)

    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
