"""Metering as a process, on real PostgreSQL and NATS: each payment counts once, whatever the bus does."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from fractions import Fraction
from pathlib import Path
from random import Random

import psycopg
import pytest

from contracts.message import LogEntry, LogPage, ReadLog, read_log_subject
from contracts.metering import ListSessions, QueryUsage, SessionPage, UsageRecorded
from contracts.signer import PaymentRefused, PaymentSigned, SessionClosed
from contracts.streams import stream_of
from services.provisioner import bus
from shared.bus import CommandRefusedError, ask
from tests import infra
from tests.integration.metering_world import (
    CERTAIN,
    METERING_USERS,
    World,
    metering_world,
    opening,
    paid,
    payment,
)
from tests.integration.publisher_stand_in import START
from tilt.slot import Slot

pytestmark = pytest.mark.anyio

NATS_USERS = METERING_USERS


@pytest.fixture
async def world(
    database: Callable[..., infra.Database], nats: infra.Nats, slot: Slot, directory: Path
) -> AsyncIterator[World]:
    async with metering_world(database("metering").dsn("metering"), nats, slot, directory) as running:
        yield running


def total(payments: Sequence[PaymentSigned]) -> tuple[int, int, int, int, int]:
    """What a query over these must answer, by another way of counting."""
    ev = sum(
        (Fraction(p.tickets * p.face_value * int(p.win_prob, 16), CERTAIN) for p in payments), Fraction()
    )
    fee = sum((Fraction(p.units * p.price_per_unit, p.pixels_per_unit) for p in payments), Fraction())
    counts = len(payments), sum(p.tickets for p in payments), sum(p.cost for p in payments)
    return (*counts, ev // 1, fee // 1)


async def totals(world: World, query: QueryUsage | None = None) -> list[tuple[int, int, int, int, int]]:
    page = await world.usage(query or QueryUsage())
    return [(row.payments, row.tickets, row.cost_wei, row.ev_wei, row.fee_wei) for row in page.rows]


async def test_totals_are_exact_whatever_the_bus_does(world: World) -> None:
    random, signer = Random(7), world.signer
    sessions = range(12)
    signer.append(*(opening(session) for session in sessions))
    signer.append(*(payment(random.choice(sessions), random) for _ in range(600)))

    await signer.publish(disordered(signer.entries, random))
    await world.applied()
    await world.admin.jetstream().delete_stream(stream_of("signer"))
    second = signer.append(*(payment(random.choice(sessions), random) for _ in range(700)))
    await signer.publish(second)  # to nobody
    await world.applied()
    await bus.ensure(world.admin, world.settings)
    third = signer.append(*(payment(random.choice(sessions), random) for _ in range(800)))
    await signer.publish(disordered([*second, *third], random))
    await world.applied()

    assert await totals(world) == [total(paid(signer.entries))]
    assert signer.asked
    assert await world.replay("--verify") == []


def disordered(entries: Sequence[LogEntry], random: Random) -> list[LogEntry]:
    """Some lost, some twice, and all in no order."""
    told = [entry for entry in entries if random.random() > 0.1]
    told += random.sample(told, len(told) // 4)
    random.shuffle(told)
    return told


async def test_a_killed_process_counts_nothing_twice(world: World) -> None:
    random, signer = Random(8), world.signer
    for _ in range(3):
        await signer.publish(signer.append(*(payment(1, random) for _ in range(900))))
        await world.kill()
        await world.start()
    await world.applied()

    assert await totals(world) == [total(paid(signer.entries))]


async def test_poison_is_buried_alone(world: World) -> None:
    random, signer = Random(9), world.signer
    good = signer.append(opening(1), *(payment(1, random) for _ in range(5)))
    zero, negative = signer.append(payment(1, random), payment(1, random))
    zero.event["app"] = "zero\0byte"
    negative.event["cost"] = "-1"
    good += signer.append(*(payment(1, random) for _ in range(5)))

    await signer.publish(signer.entries)
    await world.applied()

    assert await totals(world) == [total(paid(good))]
    buried = world.rows("SELECT reader, position, reason FROM metering.dead_letters ORDER BY position")
    assert [row[:2] for row in buried] == [
        ("metering-record-usage", zero.position),
        ("metering-record-usage", negative.position),
    ]
    assert "wei: '-1'" in str(buried[1][2])
    assert await world.replay("--verify") == []


async def test_usage_is_grouped_filtered_and_paged(world: World) -> None:
    random, signer = Random(10), world.signer
    signer.append(*(payment(session % 6, random, account="acme") for session in range(900)))
    bolt = paid(signer.append(*(payment(7, random, account="bolt") for _ in range(50))))
    signer.append(PaymentRefused(account_id="acme", session_id="s", status=402, reason="limit"))
    await signer.publish(signer.entries)
    await world.applied()

    keys = ["account", "user", "job_type", "app", "recipient", "hour"]
    whole = await world.usage(QueryUsage(group_by=keys))
    pages, after = [], list[str]()
    while page := (await world.usage(QueryUsage(group_by=keys, limit=2, after=after))).rows:
        pages += page
        after = [page[-1].group[key] or "" for key in keys]

    assert pages == whole.rows
    assert sum(row.cost_wei for row in pages) == sum(p.cost for p in paid(signer.entries))
    assert {row.group["hour"] for row in pages} == {"2026-07-01T11:00:00Z", "2026-07-01T12:00:00Z"}
    assert {row.group["user"] for row in pages} == {None, "ann"}
    assert await totals(world, QueryUsage(account_id="bolt", user_id="ann")) == [total(bolt)]
    assert await totals(world, QueryUsage(account_id="nobody")) == [(0, 0, 0, 0, 0)]
    assert await totals(world, QueryUsage(account_id="nobody", group_by=["user"])) == []
    noon = START.replace(hour=12, minute=0, second=0)
    early = paid([entry for entry in signer.entries if entry.at < noon])
    assert await totals(world, QueryUsage(to_at=noon)) == [total(early)]
    assert await totals(world, QueryUsage(from_at=noon, to_at=noon)) == [(0, 0, 0, 0, 0)]


async def test_sessions_are_listed_the_newest_first(world: World) -> None:
    random, signer = Random(11), world.signer
    for session in range(5):
        signer.append(opening(session, account="bolt" if session == 3 else "acme"))
    first = paid(signer.append(*(payment(0, random) for _ in range(3))))
    signer.append(
        SessionClosed(account_id="acme", session_id=f"{0:032x}", spent=5, ask_number=1),
        SessionClosed(account_id="acme", session_id=f"{9:032x}", spent=0, ask_number=1),  # never opened
    )
    await signer.publish(signer.entries)
    await world.applied()

    page = await ask(world.edge, ListSessions(account_id="acme", limit=2), SessionPage)
    after = page.sessions[-1].session_id
    rest = await ask(world.edge, ListSessions(account_id="acme", after=after), SessionPage)
    every = await ask(world.edge, ListSessions(), SessionPage)
    anns = await ask(world.edge, ListSessions(account_id="acme", user_id="ann"), SessionPage)

    assert [int(row.session_id, 16) for row in page.sessions + rest.sessions] == [4, 2, 1, 0]
    assert [int(row.session_id, 16) for row in every.sessions] == [4, 3, 2, 1, 0]
    assert [int(row.session_id, 16) for row in anns.sessions] == [1]
    row = rest.sessions[-1]
    assert (row.payments, row.tickets, row.cost_wei, row.closed) == (*total(first)[:3], True)
    assert (row.stream_id, row.orchestrator, row.user_id) == ("stream-0", "0xo", None)
    assert (row.opened_at, row.last_at) == (START, signer.entries[8].at)
    with pytest.raises(CommandRefusedError):
        await ask(world.edge, ListSessions(account_id="bolt", after=after), SessionPage)


async def test_recorded_usage_is_published_and_can_be_read(world: World) -> None:
    random, signer = Random(12), world.signer
    await signer.publish(signer.append(opening(1), *(payment(1, random) for _ in range(700))))
    await world.applied()

    page = await ask(world.edge, ReadLog(after=0), LogPage, subject=read_log_subject("metering"))

    recorded = [UsageRecorded.model_validate(entry.event) for entry in page.entries]
    assert sum(event.records for event in recorded) == 700
    assert sum(event.cost for event in recorded) == sum(p.cost for p in paid(signer.entries))
    assert (recorded[0].from_position, recorded[-1].to_position) == (3, signer.entries[-1].position)
    assert [entry.previous_position for entry in page.entries[1:]] == [e.position for e in page.entries[:-1]]
    jetstream = world.admin.jetstream()
    async with asyncio.timeout(10):
        while (await jetstream.stream_info(stream_of("metering"))).state.messages < len(page.entries):
            await asyncio.sleep(0.02)
    message = await jetstream.get_msg(stream_of("metering"), 1)
    assert message.data is not None
    assert LogEntry.model_validate_json(message.data) == page.entries[0]


async def test_a_rebuild_finds_and_mends_what_differs_while_metering_runs(world: World) -> None:
    random, signer = Random(13), world.signer
    await signer.publish(signer.append(opening(1), *(payment(1, random) for _ in range(300))))
    await world.applied()
    with psycopg.connect(world.dsn) as connection:
        connection.execute("UPDATE metering.usage_hourly SET fee_numerator = fee_numerator + 1")
        connection.execute("DELETE FROM metering.sessions")

    assert await world.replay("--verify") == ["usage_hourly", "sessions"]
    more = signer.append(*(payment(1, random) for _ in range(900)))
    differing, _ = await asyncio.gather(world.replay(), signer.publish(more))
    await world.applied()

    assert differing == []
    assert await world.replay("--verify") == []
    assert await totals(world) == [total(paid(signer.entries))]
    assert await world.replay() == []
