"""Streams of metering as a process, on real PostgreSQL and NATS: each delivery counts once."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from nats.aio.client import Client
from nats.js.errors import NotFoundError

from contracts.metered_streams import (
    AssignStream,
    ListMeteredStreams,
    MeteredStream,
    MeteredStreamPage,
    MeteredStreamView,
    ReadMeteredStream,
)
from contracts.stream_starts import StreamStarted, StreamStopped
from contracts.streams import stream_of
from contracts.webhooks_in import DeliveriesRecorded, Delivery, RecordDeliveries
from services.provisioner import bus
from services.provisioner.settings import ProvisionerSettings
from shared.bus import CommandRefusedError, ServiceUnavailableError, ask, connect
from tests import infra
from tests.integration.publisher_stand_in import START, FakePublisher
from tests.integration.service_process import bus_user, wait_until_ready
from tilt.slot import Slot

pytestmark = pytest.mark.anyio

NATS_USERS = (bus_user("metering"), bus_user("edge"), bus_user("quota"), bus_user("signer"))
NOON = datetime(2031, 5, 17, 12, tzinfo=UTC)
NOON_MS = int(NOON.timestamp() * 1000)
SECONDS = 30


@dataclass
class World:
    edge: Client
    quota: FakePublisher
    dsn: str
    environment: Mapping[str, str]
    port: int
    directory: Path

    @asynccontextmanager
    async def metering(self, **settings: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """Run metering so that a test can have it killed at a step."""
        log = self.directory / "metering.log"
        module = ("tests.faults.kills.stepped", "services.metering.app")
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                *module,
                env={**self.environment, **settings},
                stdout=output,
                stderr=output,
            )
        try:
            async with asyncio.timeout(SECONDS):
                await wait_until_ready(self.port, process, log)
            yield process
        finally:
            with suppress(ProcessLookupError):
                process.terminate()
            await asyncio.wait_for(process.wait(), 15)

    def die(self, when: str) -> None:
        (self.directory / "kill").write_text(f"1 {when}")

    async def record(self, *deliveries: Delivery) -> tuple[int, int]:
        """How many were recorded, and how many had come before."""
        answer = await ask(
            self.edge, RecordDeliveries(deliveries=list(deliveries)), DeliveriesRecorded, timeout=4
        )
        return answer.recorded, answer.repeated

    async def read(self, stream_id: str = "stream-1") -> MeteredStreamView:
        asked = ReadMeteredStream(account_id="acme", stream_id=stream_id)
        return await ask(self.edge, asked, MeteredStreamView)

    async def listed(self, **asked: Any) -> list[MeteredStream]:
        command = ListMeteredStreams(account_id="acme", **asked)
        return (await ask(self.edge, command, MeteredStreamPage)).streams

    async def until(self, check: Callable[[MeteredStreamView], bool]) -> MeteredStreamView:
        async with asyncio.timeout(SECONDS):
            while True:
                with suppress(CommandRefusedError, ServiceUnavailableError):
                    if check(view := await self.read()):
                        return view
                await asyncio.sleep(0.05)

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(query.encode()).fetchall()

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.dsn) as connection:
            connection.execute(statement.encode())

    def hours(self) -> list[tuple[object, ...]]:
        query = "SELECT user_id, app, hour AT TIME ZONE 'UTC', ms FROM metering.stream_hourly WHERE ms <> 0"
        return sorted(self.rows(query), key=str)

    async def replay(self, *options: str) -> list[str]:
        """Names the tables that differ."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.metering.replay",
            *options,
            env={"PATH": os.environ["PATH"], "METERING_POSTGRES_DSN": self.dsn},
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        return list(json.loads(out.splitlines()[-1])["differing"])


@pytest.fixture
async def world(
    database: Callable[..., infra.Database], nats: infra.Nats, slot: Slot, directory: Path
) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        admin = await connect("admin", nats.url())
        stack.push_async_callback(admin.close)
        for publisher in ("quota", "metering"):
            with suppress(NotFoundError):
                await admin.jetstream().delete_stream(stream_of(publisher))
        settings = ProvisionerSettings(nats_url=nats.url(), http_port=0, max_bytes=64 * 1024**2)
        await bus.ensure(admin, settings)
        edge, quota = await connect("edge", nats.url("edge")), await connect("quota", nats.url("quota"))
        signer = await connect("signer", nats.url("signer"))
        for client in (edge, quota, signer):
            stack.push_async_callback(client.close)
        publisher_of_streams = FakePublisher(quota, "quota")
        await publisher_of_streams.serve()
        await FakePublisher(signer, "signer").serve()
        dsn, port = database("metering").dsn("metering"), slot.port("metering")
        environment = {
            "PATH": os.environ["PATH"],
            "KILL_FILE": str(directory / "kill"),
            "KILL_STEPS": "deliveries",
            "METERING_POSTGRES_DSN": dsn,
            "METERING_NATS_URL": nats.url("metering"),
            "METERING_HTTP_PORT": str(port),
            "METERING_CREATE_TABLES": "true",
        }
        yield World(edge, publisher_of_streams, dsn, environment, port, directory)


def delivery(event: str, at: timedelta = timedelta(), **told: Any) -> Delivery:
    moment = NOON_MS + at // timedelta(milliseconds=1)
    content = {
        "account_id": "acme",
        "hook_id": "h00kIdOf12Lt",
        "webhook_id": "webhook-1",
        "event_id": f"{event}-{moment}",
        "event": f"stream.{event}",
        "stream_id": "stream-1",
        "created_at_ms": moment,
        "attempt_at_ms": moment + 300,
        "received_at": NOON + at + timedelta(milliseconds=700),
        "body": '{"a": "body"}',
    }
    return Delivery.model_validate({**content, **told})


STARTED, IDLE = delivery("started", timedelta(minutes=-1)), delivery("idle", timedelta(minutes=2))


@pytest.mark.parametrize(("when", "first"), [("after commit", (0, 2)), ("before commit", (2, 0))])
async def test_what_was_killed_before_its_reply_is_recorded_once(
    world: World, when: str, first: tuple[int, int]
) -> None:
    async with world.metering() as process:
        world.die(when)
        with pytest.raises(ServiceUnavailableError):
            await world.record(IDLE, STARTED)
        await asyncio.wait_for(process.wait(), SECONDS)
    async with world.metering():
        again = await world.record(IDLE, STARTED)
        once_more = await world.record(STARTED, IDLE)

        view = await world.read()

    assert (again, once_more) == (first, (0, 2))
    assert (view.stream.elapsed_ms, view.stream.state) == (180_000, "idle")
    assert [hour[2:] for hour in world.hours()] == [
        (datetime(2031, 5, 17, 11), 60_000),  # noqa: DTZ001 (as PostgreSQL tells it)
        (datetime(2031, 5, 17, 12), 120_000),  # noqa: DTZ001
    ]
    assert world.rows("SELECT count(*) FROM metering.deliveries") == [(2,)]
    assert await world.replay("--verify") == []


async def test_the_map_tells_whose_a_stream_is_and_an_assignment_moves_it(world: World) -> None:
    started = StreamStarted(
        account_id="acme", stream_id="stream-1", user_id="cid", key_id=None, app="demo", job_type="live"
    )
    stopped = StreamStopped(account_id="acme", stream_id="stream-1", because="ended")
    async with world.metering():
        await world.record(STARTED, IDLE)
        unattributed = await world.listed(unattributed=True)
        await world.quota.publish(world.quota.append(started, stopped))
        mapped = await world.until(lambda view: view.stream.user_id == "cid")
        hours = world.hours()
        assign = AssignStream(
            account_id="acme", stream_id="stream-1", user_id="bob", actor="admin:1", reason="asked_for"
        )
        assigned = await ask(world.edge, assign, MeteredStreamView)

        listed = await world.listed()

    assert [stream.stream_id for stream in unattributed] == ["stream-1"]
    assert (mapped.stream.user_from, mapped.stream.app, mapped.stream.elapsed_ms) == (
        "streams",
        "demo",
        180_000,
    )
    assert [(run.told_by, run.elapsed_ms) for run in mapped.runs] == [
        ("streams", 3),
        ("livepeer_studio", 180_000),
    ]
    assert mapped.stream.first_at == START
    assert {hour[:2] for hour in hours} == {("cid", "demo")}
    assert {hour[:2] for hour in world.hours()} == {("bob", "demo")}
    assert (assigned.stream.user_id, assigned.stream.user_from) == ("bob", "assigned")
    assert [stream.user_id for stream in listed] == ["bob"]
    assert await world.replay("--verify") == []
    assert world.rows("SELECT topic FROM metering.metering_events WHERE topic ~ 'assigned'") == [
        ("metering.stream_assigned",)
    ]


async def test_a_silent_stream_is_given_up_and_its_bodies_go(world: World) -> None:
    settings = {"METERING_STREAM_GRACE_SECONDS": "60", "METERING_RAW_BODY_DAYS": "1"}
    now = datetime.now(UTC)
    old = now - timedelta(days=2)
    old_ms = int(old.timestamp() * 1000)
    started = delivery("started").model_copy(update={"created_at_ms": old_ms, "received_at": old})
    idle = delivery("idle").model_copy(update={"created_at_ms": old_ms + 5_000, "received_at": now})
    async with world.metering(**settings):
        await world.record(started)
        given_up = await world.until(lambda view: view.stream.state == "timed_out")
        await world.record(idle)
        corrected = await world.read()
        async with asyncio.timeout(SECONDS):
            while world.rows("SELECT count(*) FROM metering.raw_deliveries") != [(1,)]:
                await asyncio.sleep(0.05)

    assert given_up.stream.elapsed_ms == 0
    assert (corrected.stream.state, corrected.stream.elapsed_ms) == ("idle", 5_000)
    assert await world.replay("--verify") == []


async def test_a_table_that_is_wrong_is_named_and_made_anew(world: World) -> None:
    async with world.metering():
        await world.record(STARTED, IDLE)
        with psycopg.connect(world.dsn) as connection:
            connection.execute("UPDATE metering.stream_hourly SET ms = ms + 1")
            connection.execute("DELETE FROM metering.deliveries WHERE event_id ~ 'idle'")
            connection.execute("UPDATE metering.streams SET elapsed_ms = 7")
        wrong = await world.replay("--verify")
        await world.replay()
        again = await world.record(STARTED, IDLE)

    assert sorted(wrong) == ["deliveries", "stream_hourly", "streams"]
    assert again == (0, 2)
    assert await world.replay("--verify") == []


async def test_no_bodies_are_kept_if_a_setting_says_so(world: World) -> None:
    async with world.metering(METERING_RAW_BODY_DAYS="0"):
        await world.record(STARTED)

    assert world.rows("SELECT count(*) FROM metering.raw_deliveries") == [(0,)]


async def test_streams_are_paged_the_newest_first(world: World) -> None:
    async with world.metering():
        for number in range(5):
            await world.record(delivery("started", stream_id=f"stream-{number}", event_id=f"event-{number}"))
        found: list[str] = []
        while page := await world.listed(limit=2, after=found[-1] if found else ""):
            found += [stream.stream_id for stream in page]
        with pytest.raises(CommandRefusedError, match="stream-9"):
            await world.read("stream-9")

    assert found == [f"stream-{number}" for number in reversed(range(5))]
