"""What edges tell of where keys are used: each network once a day, and nobody waits for it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from contracts.key_watch import SIGHTINGS_MAX, NetworksReported, ReportNetworks
from contracts.message import Fault, Message, Refusal
from services.edge import sightings
from tests.unit.edge.edge_app import PEER, PROXY, Edge
from tests.unit.edge.managing import manage, managed, send

pytestmark = pytest.mark.anyio

ME = "/v1/me"
HERE = "198.51.100.0/24"
SECONDS_MAX = 10


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sightings, "REPORT_SECONDS", 0.001)
    monkeypatch.setattr(sightings, "RETRY_SECONDS", (0.001, 0.001))


def told(edge: Edge) -> list[tuple[str, str]]:
    return [
        (seen["key_id"], seen["network"])
        for subject, command in edge.bus.asked
        if subject == ReportNetworks.subject
        for seen in command["sightings"]
    ]


@asynccontextmanager
async def reporting(
    edge: Edge, answer: Callable[[Any], Message] | None = lambda _: NetworksReported()
) -> AsyncIterator[None]:
    edge.bus.answers[ReportNetworks.subject] = answer
    task = asyncio.create_task(edge.sightings.run())
    yield
    task.cancel()


async def until_told(edge: Edge, times: int) -> list[tuple[str, str]]:
    """Wait for so many, and for one more round in which nothing may come."""
    async with asyncio.timeout(SECONDS_MAX):
        while len(told(edge)) < times:
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.01)
    return told(edge)


async def test_each_network_of_a_key_is_told_once_a_day() -> None:
    edge = Edge()
    key, other = edge.issue(), edge.issue()

    async with reporting(edge):
        for peer in (PEER, "198.51.100.200", "2001:db8:7::1", "2001:db8:7:ffff::2", "::ffff:198.51.100.9"):
            await edge.call("GET", ME, credential=key.text, peer=peer)
        await edge.pay(other.text)
        await edge.pay(other.text)
        first_day = await until_told(edge, 3)
        edge.clock.advance(timedelta(days=1))
        await asyncio.sleep(0.01)
        await edge.pay(other.text)
        second_day = await until_told(edge, 4)

    assert sorted(first_day) == sorted(
        [(key.key_id, HERE), (key.key_id, "2001:db8:7::/48"), (other.key_id, HERE)]
    )
    assert second_day[3:] == [(other.key_id, HERE)]


async def test_the_network_is_the_clients_and_not_the_proxys() -> None:
    edge = Edge()
    key = edge.issue()

    async with reporting(edge):
        await edge.call(
            "GET", ME, credential=key.text, peer=PROXY, headers={"x-forwarded-for": "203.0.113.5"}
        )
        await edge.call("GET", ME, credential=key.text, peer=PROXY, headers={"x-forwarded-for": "garbage"})
        await edge.call("GET", ME, credential=key.text, peer=None)

        assert await until_told(edge, 1) == [(key.key_id, "203.0.113.0/24")]


async def test_only_who_was_let_in_with_the_key_itself_counts() -> None:
    edge = managed()
    key, revoked = edge.issue(), edge.issue()
    edge.put(revoked, status="revoked")
    token = edge.tokens.make(  # type: ignore[union-attr] # it has keys for them
        account_id="acme", user_id="ann", key_id=key.key_id, lifetime=timedelta(hours=1), limited=False
    )

    async with reporting(edge):
        await edge.call("GET", ME, credential=revoked.text)
        await edge.call("GET", ME, credential="nonsense")
        await edge.call("GET", ME, credential=token.text)
        await manage(edge, "GET", ME)
        await send(edge, "POST", "/auth/stream", key.text, {"url": "rtmp://gateway/recordings/x"})
        await edge.call("GET", ME, credential=key.text, peer="203.0.113.5")

        assert await until_told(edge, 1) == [(key.key_id, "203.0.113.0/24")]


async def test_what_quota_does_not_take_at_once_is_told_until_it_does() -> None:
    edge = Edge()
    key = edge.issue()
    answers: list[Message] = [Fault(message="IntegrityError"), NetworksReported()]

    async with reporting(edge, lambda _: answers.pop(0)):
        await edge.pay(key.text)
        await until_told(edge, 2)
        await edge.pay(key.text)

        assert await until_told(edge, 2) == [(key.key_id, HERE)] * 2


@pytest.mark.parametrize("answer", [None, lambda _: Refusal(code="bad_command", message="no")])
async def test_what_quota_never_takes_is_told_again_with_the_next_request(answer: Any) -> None:
    edge = Edge()
    key = edge.issue()

    async with reporting(edge, answer):
        await edge.pay(key.text)
        tries = await until_told(edge, 3)
        edge.bus.answers[ReportNetworks.subject] = lambda _: NetworksReported()
        await edge.pay(key.text)

        assert await until_told(edge, 4) == [(key.key_id, HERE)] * 4
    assert len(tries) == 3


async def test_reports_and_what_is_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sightings, "SEEN_MAX", SIGHTINGS_MAX)
    monkeypatch.setattr(sightings, "WAITING_MAX", SIGHTINGS_MAX + 1)
    edge = Edge()
    key = edge.issue()

    for number in range(SIGHTINGS_MAX + 50):
        await edge.pay(key.text, peer=f"10.0.{number}.1")
    async with reporting(edge):
        reported = await until_told(edge, SIGHTINGS_MAX + 1)
        await edge.pay(key.text, peer="10.0.1.1")
        await edge.pay(key.text, peer="10.0.0.1")
        again = await until_told(edge, SIGHTINGS_MAX + 2)

    sizes = [len(command["sightings"]) for _, command in edge.bus.asked]
    assert sizes == [SIGHTINGS_MAX, 1, 1]
    assert len(set(reported)) == SIGHTINGS_MAX + 1
    assert again[-1] == (key.key_id, "10.0.0.0/24")
