"""Deliveries: `python -m tests.faults deliveries --amount 10000`.

Streams whose deliveries are shuffled, doubled, late and lost, through metering's application on a real
PostgreSQL. Twice in different orders and batches: both give the same tables, and what was not lost
gives the time the streams really ran.
"""

from collections.abc import Iterator
from random import Random
from typing import cast

from psycopg.rows import DictRow

from services.metering.app import make_tables
from services.metering.application import Metering
from services.metering.outbox import MeteringOutbox
from services.metering.projections import usage_tables
from services.metering.replay import replay
from services.metering.stream_tables import TABLES, StreamStore
from services.metering.streaming import Streaming
from shared.log import PublicLog
from shared.meter import Progress
from shared.store import ThinRecorder, postgres_env
from tests import infra
from tests.faults.deliveries.storm import GRACE, NOW, Show, Storm, batches, storm
from tests.faults.part import Findings

UNIT = "streams"
AMOUNT = 10_000
CHUNK = 1_000

type Tables = dict[str, list[DictRow]]


def run(seed: int, amount: int) -> Iterator[Findings]:
    """Tell of so many streams, a thousand at a time."""
    with infra.own_slot() as slot, infra.run_postgres(slot) as postgres:
        yield from run_on(postgres, seed, amount)


def run_on(postgres: infra.Postgres, seed: int, amount: int) -> Iterator[Findings]:
    for start in range(0, amount, CHUNK):
        told = storm(seed + start, min(CHUNK, amount - start))
        first, violations = _tables(postgres, told, seed)
        other, more = _tables(postgres, told, seed + 1)
        findings = Findings(len(told.shows), violations=[*violations, *more])
        if _without_order(first) != _without_order(other):
            findings.violations.append(f"seed {seed + start}: another order gives other tables")
        findings.violations.extend(_wrong(told, first))
        findings.counted.update(
            {"deliveries": len(told.arrivals), "streams of which nothing was lost": len(told.whole)}
        )
        yield findings


def _tables(postgres: infra.Postgres, told: Storm, seed: int) -> tuple[Tables, list[str]]:
    """Record everything in an order of the seed's, and most of it again; replay it."""
    random = Random(seed)
    arrivals = list(told.arrivals)
    random.shuffle(arrivals)
    arrivals += random.sample(arrivals, len(arrivals) // 9)
    with postgres.database("metering") as database:
        env = postgres_env(database.dsn("metering"), "metering", create_tables=True)
        with Metering(usage_tables("metering"), env) as metering:
            make_tables(metering, PublicLog(metering, MeteringOutbox(metering)))
            store = StreamStore(cast("ThinRecorder", metering.recorder).datastore)
            streaming = Streaming(metering, store, grace=GRACE, raw_days=0)
            for batch in batches(random, arrivals):
                streaming.record(batch, NOW)
            streaming.give_up_silent(NOW)
            differing = replay.verify(database.dsn("metering"), _silently).differing
            found = {table: _rows(metering, table) for table in TABLES}
    return found, [f"replay of {table}: {keys}" for table, keys in differing.items()]


def _rows(metering: Metering, table: str) -> list[DictRow]:
    with cast("ThinRecorder", metering.recorder).datastore.get_connection() as connection:
        return sorted(connection.execute(f"SELECT * FROM metering.{table}".encode()).fetchall(), key=str)


def _without_order(tables: Tables) -> Tables:
    """Without what tells when we heard of it: the first moment, and which hours had time for a while."""
    heard = {"opened_at", "late_ms"}
    return {
        table: [
            {name: value for name, value in row.items() if name not in heard}
            for row in rows
            if row.get("ms") != 0
        ]
        for table, rows in tables.items()
    }


def _wrong(told: Storm, tables: Tables) -> Iterator[str]:
    found = {row["stream_id"]: row for row in tables["streams"]}
    for show in told.shows:
        row = found.get(show.stream_id)
        if row is not None:
            yield from _wrong_row(show, row, whole=show.stream_id in told.whole)
    summed = sum(row["ms"] for row in tables["stream_hourly"])
    if summed != sum(row["elapsed_ms"] for row in tables["streams"]):
        yield "hours do not add up to the streams' time"
    if any(row["ms"] < 0 for row in tables["stream_hourly"]):
        yield "an hour has less than nothing"
    keys = {(arrival.key, arrival.stream_id) for arrival in told.arrivals}
    if len(tables["deliveries"]) != len(keys):
        yield f"{len(tables['deliveries'])} deliveries of {len(keys)} were kept"


def _wrong_row(show: Show, row: DictRow, *, whole: bool) -> Iterator[str]:
    if not 0 <= row["elapsed_ms"] <= show.wall_ms:
        yield f"{show} ran for {row['elapsed_ms']} ms"
    if whole and (row["elapsed_ms"], row["state"], row["differs"]) != (show.elapsed_ms, "idle", False):
        yield f"{show} was told whole and is {row}"
    if row["user_id"] != show.user_id:
        yield f"{show} is {row['user_id']}'s"
    if row["state"] == "running":
        yield f"{show} still runs"


def _silently(_: Progress) -> None:
    pass
