"""Pushed usage through metering as a process: whatever kills it in mid-import, totals are exact."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import batched
from pathlib import Path
from random import Random

import pytest

from contracts.meters import DefineMeter, ListMeters, MeterPage, MeterView, RetireMeter
from contracts.usage_events import EventOutcome, RecordUsageEvents, UsageEvent, UsageEventsAnswered
from shared.bus import CommandRefusedError, ServiceUnavailableError, ask
from tests import infra
from tests.integration.stream_world import STREAM_USERS, World, stream_world
from tilt.slot import Slot

pytestmark = pytest.mark.anyio

NATS_USERS = STREAM_USERS

EVENTS = 2_000
LIVES = 3
SECONDS = 60


@pytest.fixture
async def world(
    database: Callable[..., infra.Database], nats: infra.Nats, slot: Slot, directory: Path
) -> AsyncIterator[World]:
    async with stream_world(database("metering"), nats, slot, directory) as made:
        yield made


def events(now: datetime) -> list[UsageEvent]:
    """Of two accounts, some said twice, and every seventh corrected."""
    random = Random(7)
    found = []
    for number in range(EVENTS):
        account = random.choice(["acme", "globex"])
        at = now - timedelta(seconds=random.randrange(100_000))
        said = event(account, f"{number}", number % 100, at=at)
        found.append(said)
        if number % 7 == 0:
            found.append(event(account, f"{number} fixed", 1, corrects=said.event_id))
        if number % 11 == 0:
            found.append(random.choice(found))
    return found


def event(
    account_id: str, event_id: str, number: int, *, at: datetime | None = None, corrects: str | None = None
) -> UsageEvent:
    return UsageEvent(
        account_id=account_id,
        source="app",
        event_id=event_id,
        type="used",
        at=at,
        numbers={"n": f"{number}.{event_id[0]}"},
        corrects=corrects,
    )


def total(said: list[UsageEvent]) -> Decimal:
    once: dict[tuple[str, str], UsageEvent] = {}
    for each in said:
        once.setdefault((each.account_id, each.event_id), each)
    numbers: dict[tuple[str, str], Decimal] = {}
    for each in once.values():
        numbers[each.account_id, each.corrects or each.event_id] = Decimal(each.numbers["n"])
    return sum(numbers.values(), Decimal(0))


async def push(world: World, part: tuple[UsageEvent, ...]) -> list[EventOutcome]:
    command = RecordUsageEvents(events=list(part))
    return (await ask(world.edge, command, UsageEventsAnswered, timeout=10)).outcomes


async def push_until_answered(world: World, said: list[UsageEvent]) -> set[str]:
    statuses: set[str] = set()
    async with asyncio.timeout(SECONDS):
        for part in batched(said, 250):
            statuses |= {outcome.status for outcome in await push(world, part)}
    return statuses


async def define(world: World, name: str = "total") -> MeterView:
    command = DefineMeter(name=name, event_type="used", aggregation="sum", value="n", actor="admin:1")
    return await ask(world.edge, command, MeterView, timeout=10)


async def test_an_import_that_is_killed_again_and_again_is_exact_in_the_end(world: World) -> None:
    said = events(datetime.now(UTC))
    for life in range(LIVES):
        async with world.metering() as process:
            await define(world)
            pushing = asyncio.create_task(push_until_answered(world, said))
            async with asyncio.timeout(SECONDS):
                while len(world.rows("SELECT 1 FROM metering.event_keys LIMIT 2000")) < 400 * life + 1:
                    await asyncio.sleep(0.005)
            process.kill()
            await asyncio.wait_for(process.wait(), SECONDS)
            pushing.cancel()  # who waits for that process waits in vain
            with suppress(ServiceUnavailableError, asyncio.CancelledError):
                await pushing
    stored_before = len(world.rows("SELECT 1 FROM metering.event_keys"))
    async with world.metering():
        again = await push_until_answered(world, said)

    keys = {(each.account_id, each.event_id) for each in said}
    assert 0 < stored_before < len(keys)
    assert again == {"recorded", "repeated"}
    assert world.rows("SELECT count(*) FROM metering.event_keys") == [(len(keys),)]
    sums = "SELECT sum(records), sum(amount) FROM metering.meter_hourly WHERE meter = "
    assert world.rows(f"{sums} 'total'") == [(EVENTS, total(said))]
    assert world.rows(f"{sums} 'usage_events'") == [(EVENTS, EVENTS)]
    assert await world.replay("--verify") == []


async def test_meters_are_defined_listed_and_retired_and_a_wrong_table_is_made_anew(world: World) -> None:
    async with world.metering():
        defined = await define(world)
        again = await define(world)
        other = DefineMeter(name="total", event_type="other", aggregation="count", actor="admin:1")
        with pytest.raises(CommandRefusedError) as refused:
            await ask(world.edge, other, MeterView)
        await push(world, (event("acme", "1", 7), event("acme", "2", 1, corrects="1")))
        retired = await ask(world.edge, RetireMeter(name="total", actor="admin:1"), MeterView)
        listed = (await ask(world.edge, ListMeters(), MeterPage)).meters
    kept = world.rows("SELECT * FROM metering.meter_hourly ORDER BY meter")
    for change in (
        "UPDATE metering.meter_hourly SET amount = amount + 1",
        "UPDATE metering.meters SET retired_at = NULL",
        "DELETE FROM metering.event_keys",
        "DELETE FROM metering.event_corrections",
    ):
        world.execute(change)
    wrong = await world.replay("--verify")
    await world.replay()

    assert again == defined
    assert refused.value.refusal.code == "meter_differs"
    assert (listed, retired.retired_at is None) == ([retired], False)
    assert sorted(wrong) == ["event_corrections", "event_keys", "meter_hourly", "meters"]
    assert await world.replay("--verify") == []
    assert world.rows("SELECT * FROM metering.meter_hourly ORDER BY meter") == kept
