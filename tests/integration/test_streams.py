"""Streams of metering as a process, on real PostgreSQL and NATS: each delivery counts once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from contracts.metered_streams import (
    AssignStream,
    MeteredStreamView,
)
from contracts.stream_starts import StreamStarted, StreamStopped
from shared.bus import CommandRefusedError, ServiceUnavailableError, ask
from tests import infra
from tests.integration.publisher_stand_in import START
from tests.integration.stream_world import (
    IDLE,
    SECONDS,
    STARTED,
    STREAM_USERS,
    World,
    delivery,
    stream_world,
)
from tilt.slot import Slot

pytestmark = pytest.mark.anyio

NATS_USERS = STREAM_USERS


@pytest.fixture
async def world(
    database: Callable[..., infra.Database], nats: infra.Nats, slot: Slot, directory: Path
) -> AsyncIterator[World]:
    async with stream_world(database("metering"), nats, slot, directory) as made:
        yield made


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
        nobodys, bobs = await world.listed(user_id="cid"), await world.listed(user_id="bob")

    assert (nobodys, bobs) == ([], listed)
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
