"""Metering as a process, on real PostgreSQL and NATS: each payment counts once, whatever the bus does."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from random import Random

import psycopg
import pytest
from nats.aio.client import Client
from nats.js.errors import NotFoundError

from contracts.message import LogEntry, LogPage, ReadLog, read_log_subject
from contracts.metering import ListSessions, QueryUsage, SessionPage, UsagePage, UsageRecorded
from contracts.signer import PaymentRefused, PaymentSigned, SessionClosed, SessionOpened
from contracts.streams import stream_of
from services.provisioner import bus
from services.provisioner.settings import ProvisionerSettings
from shared.bus import CommandRefusedError, ask, connect
from tests import infra
from tests.integration.publisher_stand_in import START, FakePublisher
from tests.integration.service_process import bus_user, service
from tilt.slot import Slot

pytestmark = pytest.mark.anyio

NATS_USERS = (bus_user("metering"), bus_user("signer"), bus_user("edge"))
CERTAIN = 2**256 - 1


@dataclass
class World:
    signer: FakePublisher
    edge: Client
    admin: Client
    dsn: str
    settings: ProvisionerSettings
    start: Callable[[], Awaitable[int]]
    kill: Callable[[], Awaitable[None]]

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(query.encode()).fetchall()

    async def applied(self) -> None:
        """Wait until metering has applied the whole log."""
        async with asyncio.timeout(30):
            while self._position() != self.signer.entries[-1].position:
                await asyncio.sleep(0.02)

    def _position(self) -> object:
        with suppress(psycopg.errors.UndefinedTable):
            for row in self.rows(
                "SELECT position FROM metering.positions WHERE reader = 'metering-record-usage'"
            ):
                return row[0]
        return None

    async def usage(self, query: QueryUsage) -> UsagePage:
        return await ask(self.edge, query, UsagePage)

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
        differing = list(json.loads(out.splitlines()[-1])["differing"])
        assert process.returncode == (1 if differing else 0)
        return differing


@pytest.fixture
async def world(
    database: Callable[..., infra.Database], nats: infra.Nats, slot: Slot, directory: Path
) -> AsyncIterator[World]:
    admin = await connect("admin", nats.url())
    for publisher in ("signer", "metering"):
        with suppress(NotFoundError):
            await admin.jetstream().delete_stream(stream_of(publisher))
    provisioning = ProvisionerSettings(nats_url=nats.url(), http_port=0, max_bytes=64 * 1024**2)
    await bus.ensure(admin, provisioning)
    signer_client, edge = await connect("signer", nats.url("signer")), await connect("edge", nats.url("edge"))
    signer = FakePublisher(signer_client, "signer")
    await signer.serve()
    dsn = database("metering").dsn("metering")
    settings = {"POSTGRES_DSN": dsn, "NATS_URL": nats.url("metering"), "CREATE_TABLES": "true"}
    running: list[tuple[object, int]] = []

    async def start() -> int:
        context = service("metering", slot.port("metering"), settings, directory / "metering.log")
        pid = await context.__aenter__()
        running.append((context, pid))
        return pid

    async def kill() -> None:
        context, pid = running.pop()
        os.kill(pid, signal.SIGKILL)
        await context.__aexit__(None, None, None)  # type: ignore[attr-defined]

    await start()
    yield World(signer, edge, admin, dsn, provisioning, start, kill)
    for context, _ in running:
        await context.__aexit__(None, None, None)  # type: ignore[attr-defined]
    for client in (signer_client, edge, admin):
        await client.close()


def opening(session: int, *, account: str = "acme") -> SessionOpened:
    return SessionOpened(
        account_id=account,
        session_id=f"{session:032x}",
        user_id="ann" if session % 2 else None,
        key_id="key",
        stream_id=f"stream-{session}",
        app="daydream",
        job_type="lv2v",
        orchestrator="0xo",
    )


def payment(session: int, random: Random, *, account: str = "acme") -> PaymentSigned:
    return PaymentSigned(
        account_id=account,
        session_id=f"{session:032x}",
        user_id="ann" if session % 2 else None,
        app="daydream",
        job_type="lv2v",
        recipient=f"0x{session % 3:040x}",
        payer="0xp",
        tickets=random.randint(1, 5),
        cost=random.randrange(10**19),
        face_value=random.randrange(10**18),
        win_prob=hex(random.randrange(CERTAIN)),
        units=random.randrange(10**9),
        price_per_unit=random.randrange(1, 10**6),
        pixels_per_unit=random.choice([1, 3, 7, 10**6]),
        creation_round=9,
    )


def paid(entries: Sequence[LogEntry]) -> list[PaymentSigned]:
    found = [entry for entry in entries if entry.subject == PaymentSigned.subject]
    return [PaymentSigned.model_validate(entry.event) for entry in found]


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


@pytest.mark.parametrize(
    "query",
    [
        QueryUsage(from_at=START),
        QueryUsage(to_at=datetime(2026, 7, 1, 12)),  # noqa: DTZ001 (that is what is refused)
        QueryUsage(group_by=["hour", "hour"]),
        QueryUsage(group_by=["hour"], after=["soon"]),
        QueryUsage(group_by=["hour"], after=["2026-07-01T12:00:00"]),
        QueryUsage(group_by=["user"], after=["a", "b"]),
        QueryUsage(after=["a"]),
        QueryUsage(account_id="zero\0byte"),
    ],
)
async def test_a_query_without_sense_is_refused(world: World, query: QueryUsage) -> None:
    with pytest.raises(CommandRefusedError) as refused:
        await world.usage(query)

    assert refused.value.refusal.code == "bad_query"


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
