"""`clearinghouse log forward`: every payment is posted until it is taken, and again only after a crash."""

# ruff: noqa: ASYNC240 (small files, in tests)

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr

from contracts.public_log import Wanted
from contracts.streams import PUBLISHERS
from services.cli import log_forward, log_source
from services.cli.log_forward import Receiver, forward, receiver_of
from services.cli.log_source import LogSource, wanted_of
from services.cli.running import RefusedHereError
from shared.cloud_events import PAYMENTS
from tests.public_logs import FakeLogs, closed, paid

pytestmark = pytest.mark.anyio

SECONDS = 20


@dataclass
class OpenMeter:
    """What takes batches, and how it answers: the statuses in their order, then always 204."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    taken: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        events = json.loads(await request.read())
        self.headers.append(dict(request.headers))
        status = self.statuses.pop(0) if self.statuses else 204
        if status < 300:
            self.taken += events
        return web.Response(status=status, text="" if status == 204 else "not that")

    @property
    def ids(self) -> list[str]:
        return [event["id"] for event in self.taken]

    async def until(self, check: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS):
            while not check():
                await asyncio.sleep(0.005)


@pytest.fixture
async def meter() -> AsyncIterator[OpenMeter]:
    meter = OpenMeter()
    app = web.Application()
    app.router.add_post("/api/v1/events", meter.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    meter.url = f"http://127.0.0.1:{port}/api/v1/events"
    yield meter
    await runner.cleanup()


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> FakeLogs:
    monkeypatch.setattr(log_forward, "RETRY_SECONDS", (0.01,))
    monkeypatch.setattr(log_forward, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(log_source, "RETRY_SECONDS", (0.01, 0.01))
    return FakeLogs(*PUBLISHERS)


@pytest.fixture
def position(tmp_path: Path) -> Path:
    return tmp_path / "position"


@asynccontextmanager
async def forwarding(
    logs: FakeLogs,
    meter: OpenMeter,
    position: Path,
    *,
    types: Sequence[str] = PAYMENTS,
    header: str | None = None,
    begin: str | None = None,
) -> AsyncIterator[asyncio.Task[None]]:
    receiver = Receiver(meter.url, SecretStr(header) if header else None)
    wanted = Wanted(frozenset(types))
    running = asyncio.create_task(forward(LogSource(logs.ask_page), receiver, position, wanted, begin))
    try:
        yield running
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_payments_are_posted_as_they_come_and_nothing_else_is(
    logs: FakeLogs, meter: OpenMeter, position: Path
) -> None:
    logs.of["signer"].tell(paid())
    async with forwarding(logs, meter, position, header="Authorization: Bearer of-a-meter"):
        await meter.until(lambda: len(meter.taken) == 1)
        logs.of["signer"].tell(closed())
        logs.of["signer"].tell(paid())
        await meter.until(lambda: len(meter.taken) == 2)

    assert meter.ids == ["signer:1:3", "signer:1:9"]
    assert {event["type"] for event in meter.taken} == {"create_signed_ticket"}
    assert meter.headers[0]["Authorization"] == "Bearer of-a-meter"
    assert meter.headers[0]["Content-Type"] == "application/cloudevents-batch+json"


async def test_it_goes_on_where_it_was(logs: FakeLogs, meter: OpenMeter, position: Path) -> None:
    for _ in range(250):
        logs.of["signer"].tell(paid())
    async with forwarding(logs, meter, position):
        await meter.until(lambda: len(meter.taken) == 250 and position.exists())
    logs.of["signer"].tell(paid())
    async with forwarding(logs, meter, position):
        await meter.until(lambda: len(meter.taken) >= 251)

    assert len(meter.headers) == 4  # batches of a hundred
    assert meter.ids[-1] == "signer:1:753"
    assert len(set(meter.ids)) == 251


@pytest.mark.parametrize("statuses", [[500, 503], [429], [408, 502]])
async def test_what_is_not_taken_is_posted_again(
    logs: FakeLogs, meter: OpenMeter, position: Path, statuses: list[int]
) -> None:
    meter.statuses = statuses
    logs.of["signer"].tell(paid())

    async with forwarding(logs, meter, position):
        await meter.until(lambda: bool(meter.taken))

    assert meter.ids == ["signer:1:3"]


async def test_a_receiver_that_is_not_there_is_waited_for(
    logs: FakeLogs, meter: OpenMeter, position: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    logs.of["signer"].tell(paid())
    real, meter.url = meter.url, "http://127.0.0.1:1/nobody"
    async with forwarding(logs, meter, position):
        while "not taken" not in capfd.readouterr().err:
            await asyncio.sleep(0.005)
    assert not position.exists()
    meter.url = real
    async with forwarding(logs, meter, position):
        await meter.until(lambda: bool(meter.taken))

    assert meter.ids == ["signer:1:3"]


@pytest.mark.parametrize("status", [400, 401, 404, 302])
async def test_what_is_refused_for_good_ends_it_and_is_not_passed_over(
    logs: FakeLogs, meter: OpenMeter, position: Path, status: int
) -> None:
    meter.statuses = [status]
    logs.of["signer"].tell(paid())

    async with forwarding(logs, meter, position) as running:
        with pytest.raises(RefusedHereError, match=f"for good: {status}: not that"):
            await asyncio.wait_for(running, SECONDS)

    assert not position.exists()


async def test_a_crash_after_a_post_sends_it_again_with_the_same_id(
    logs: FakeLogs, meter: OpenMeter, position: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs.of["signer"].tell(paid())
    with monkeypatch.context() as broken:
        broken.setattr(log_forward, "_keep", lambda *_: (_ for _ in ()).throw(OSError("the disk is gone")))
        async with forwarding(logs, meter, position) as running:
            with pytest.raises(OSError, match="the disk is gone"):
                await asyncio.wait_for(running, SECONDS)
    async with forwarding(logs, meter, position):
        await meter.until(lambda: len(meter.taken) == 2)

    assert meter.ids == ["signer:1:3"] * 2


async def test_a_restored_log_ends_it_with_where_to_go_on(
    logs: FakeLogs, meter: OpenMeter, position: Path
) -> None:
    for _ in range(2):
        logs.of["signer"].tell(paid())
    async with forwarding(logs, meter, position) as running:
        await meter.until(lambda: len(meter.taken) == 2 and position.exists())
        logs.of["signer"].restore(1, epoch=7)
        with pytest.raises(RefusedHereError, match="go on with --from ") as refused:
            await asyncio.wait_for(running, SECONDS)
    logs.of["signer"].tell(paid())
    position.unlink()
    async with forwarding(logs, meter, position, begin=str(refused.value).rsplit(" ", 1)[1]):
        await meter.until(lambda: len(meter.taken) == 3)

    assert meter.ids == ["signer:1:3", "signer:1:6", "signer:7:6"]


async def test_two_do_not_share_a_position(logs: FakeLogs, meter: OpenMeter, position: Path) -> None:
    logs.of["signer"].tell(paid())
    async with forwarding(logs, meter, position):
        await meter.until(lambda: bool(meter.taken))
        async with forwarding(logs, meter, position) as second:
            with pytest.raises(RefusedHereError, match="another process"):
                await asyncio.wait_for(second, SECONDS)


@pytest.mark.parametrize("url", ["", "meter.example", "ftp://meter.example", "http://"])
def test_where_nothing_can_be_posted_is_refused(url: str) -> None:
    with pytest.raises(RefusedHereError, match="--to"):
        receiver_of(url, None)


@pytest.mark.parametrize("header", ["Bearer abc", ": abc", "Authorization:"])
def test_what_is_no_header_is_refused_and_not_shown(header: str) -> None:
    with pytest.raises(RefusedHereError) as refused:
        Receiver("https://meter.example", SecretStr(header)).headers()

    assert str(refused.value) == "CLEARINGHOUSE_FORWARD_HEADER: must be `Name: value`"


@pytest.mark.parametrize(
    ("types", "account", "service", "message"),
    [
        (["Nonsense"], None, None, "--types: there is no Nonsense"),
        (["PlanSet"], "acme", None, "--types: PlanSet concerns no account"),
        (["PaymentSigned"], None, "quota", "--service: quota tells nothing of that"),
        ([], None, "nobody", "--service: nobody tells nothing of that"),
    ],
)
def test_what_there_is_not_cannot_be_asked_for(
    types: list[str], account: str | None, service: str | None, message: str
) -> None:
    with pytest.raises(RefusedHereError, match=message):
        wanted_of(types, account, service)


def test_a_service_stands_for_what_it_tells() -> None:
    assert wanted_of([], None, "signer").services() == ("signer",)
