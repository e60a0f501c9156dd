"""How long queries over usage take: `python -m tests.bench.bench_usage_queries [queries of a kind]`.

Fills the tables with 30 days of 100 accounts, as if over a million payments had been recorded: four
users pay four recipients, and two streams run, in each hour of each account. Prints a JSON line for
each kind of query: p50 and p99 in milliseconds from the command as metering gets it to its answer, on
one connection, and the CPU that one takes, ours and PostgreSQL's. CPU tells more on a busy machine.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, LiteralString

import psycopg
from psycopg.sql import SQL

from contracts.metering import QueryMeter, QueryUsage
from services.metering.app import make_tables
from services.metering.application import Metering
from services.metering.as_of import AsOf
from services.metering.meter_queries import MeterQueries
from services.metering.outbox import MeteringOutbox
from services.metering.projections import usage_tables
from services.metering.queries import UsageQueries
from shared.log import PublicLog
from shared.store import ThinRecorder, postgres_env
from tests import infra

ACCOUNTS = 100
START = datetime(2026, 6, 1, tzinfo=UTC)
DAYS = 30
TICKS = os.sysconf("SC_CLK_TCK")
USAGE: LiteralString = """
INSERT INTO metering.usage_hourly (account_id, user_id, job_type, app, recipient, hour, fee_denominator,
    payments, tickets, cost, ev_numerator, fee_numerator, key_id, capability, of_hour, units, sessions, late)
SELECT 'account-' || account, 'user-' || (place + 4 * (hour %% 25)), 'lv2v', 'daydream',
    '0x' || lpad(to_hex((account + place) %% 30), 40, '0'), at,
    CASE place %% 2 WHEN 0 THEN 1 ELSE 1000000 END, 4, 8, 8000000000000, 8 * (2::numeric ^ 256),
    27648000 * 4 * 1200::numeric, 'key-' || account || place %% 2, 'live-video-to-video/a-model', at,
    27648000 * 4, 0, 0
FROM generate_series(0, %s - 1) AS hour, generate_series(0, %s - 1) AS account,
    generate_series(0, 3) AS place,
    LATERAL (SELECT %s::timestamptz + hour * interval '1 hour' AS at) AS moments
"""
STREAMS: LiteralString = """
INSERT INTO metering.stream_hourly (account_id, user_id, app, hour, ms, late_ms, of_hour)
SELECT 'account-' || account, 'user-' || place, 'demo', at, 1234567, 0, at
FROM generate_series(0, %s - 1) AS hour, generate_series(0, %s - 1) AS account,
    generate_series(0, 1) AS place,
    LATERAL (SELECT %s::timestamptz + hour * interval '1 hour' AS at) AS moments
"""


def main(queries: int) -> None:
    with (
        infra.own_slot() as slot,
        infra.run_postgres(slot) as postgres,
        postgres.database("metering") as database,
    ):
        dsn = database.dsn("metering")
        with Metering(
            usage_tables("metering"), postgres_env(dsn, "metering", create_tables=True)
        ) as metering:
            make_tables(metering, PublicLog(metering, MeteringOutbox(metering)))
            _print(kind="filled", **_fill(dsn))
            assert isinstance(metering.recorder, ThinRecorder)
            datastore = metering.recorder.datastore
            meters = MeterQueries(datastore, AsOf("metering", metering.mapper))
            payments = UsageQueries(datastore)
            for kind, asked in KINDS.items():
                commands = [QueryMeter.model_validate(each) for each in _aimed(asked, queries)]
                _measure(dsn, kind, meters.query, commands)
            for kind, asked in PAYMENT_KINDS.items():
                sums = [QueryUsage.model_validate(each) for each in _aimed(asked, queries)]
                _measure(dsn, kind, payments.query_usage, sums)


DAY, MONTH = 1, DAYS
OF_ACCOUNT = {"account_id": True}
KINDS: Mapping[str, dict[str, Any]] = {
    "account, month, total": {"meter": "payment_cost_wei", "days": MONTH, **OF_ACCOUNT},
    "account, month by days of Berlin": {
        "meter": "payment_cost_wei",
        "days": MONTH,
        "window": "day",
        "time_zone": "Europe/Berlin",
        **OF_ACCOUNT,
    },
    "account, month by days, by user": {
        "meter": "billable_seconds",
        "days": MONTH,
        "window": "day",
        "group_by": ["user"],
        "limit": 500,
        **OF_ACCOUNT,
    },
    "account, month, fees by capability": {
        "meter": "payment_fee_wei",
        "days": MONTH,
        "group_by": ["capability"],
        **OF_ACCOUNT,
    },
    "account, day by hours": {"meter": "tickets", "days": DAY, "window": "hour", **OF_ACCOUNT},
    "account, month, one user": {
        "meter": "pixels",
        "days": MONTH,
        "filters": {"user": "user-7"},
        **OF_ACCOUNT,
    },
    "account, month of streams by days": {
        "meter": "stream_seconds",
        "days": MONTH,
        "window": "day",
        **OF_ACCOUNT,
    },
    "house, day by account": {"meter": "payment_cost_wei", "days": DAY, "group_by": ["account"]},
    "house, month by account": {"meter": "payment_cost_wei", "days": MONTH, "group_by": ["account"]},
}
PAYMENT_KINDS: Mapping[str, dict[str, Any]] = {
    "account, month, payments by user": {"days": MONTH, "group_by": ["user"], **OF_ACCOUNT},
    "house, day, payments by account": {"days": DAY, "group_by": ["account"]},
}  # fmt: skip


def _aimed(asked: Mapping[str, Any], queries: int) -> Iterator[dict[str, Any]]:
    """Another account and another stretch each time."""
    random = Random(1)
    told = dict(asked)
    days = told.pop("days")
    for _ in range(queries):
        if "account_id" in told:
            told["account_id"] = f"account-{random.randrange(ACCOUNTS)}"
        from_at = START + timedelta(days=random.randrange(DAYS - days + 1))
        yield {**told, "from_at": from_at, "to_at": from_at + timedelta(days=days)}


def _fill(dsn: str) -> dict[str, object]:
    params = (DAYS * 24, ACCOUNTS, START)
    with psycopg.connect(dsn, autocommit=True, options="-c statement_timeout=0") as connection:
        connection.execute(SQL(USAGE), params)
        connection.execute(SQL(STREAMS), params)
        connection.execute("VACUUM ANALYZE metering.usage_hourly, metering.stream_hourly")
        row = connection.execute("SELECT sum(payments), count(*) FROM metering.usage_hourly").fetchone()
    assert row is not None
    return {"payments": int(row[0]), "rows": row[1]}


def _measure[Asked](dsn: str, kind: str, ask: Callable[[Asked], object], commands: Sequence[Asked]) -> None:
    taken = list[float]()
    own, servers = time.process_time(), _server_seconds(dsn)
    for command in commands:
        began = time.perf_counter()
        ask(command)
        taken.append(1000 * (time.perf_counter() - began))
    own, servers = time.process_time() - own, _server_seconds(dsn) - servers
    taken.sort()
    p50, p99 = (round(taken[int(share * (len(taken) - 1))], 1) for share in (0.5, 0.99))
    cpu = [round(1000 * seconds / len(taken), 1) for seconds in (own, servers)]
    _print(kind=kind, p50_ms=p50, p99_ms=p99, own_cpu_ms=cpu[0], postgres_cpu_ms=cpu[1])


def _server_seconds(dsn: str) -> float:
    """CPU of the server's processes for metering, but for the one that asks here."""
    with psycopg.connect(dsn) as connection:
        query = "SELECT pid FROM pg_stat_activity WHERE usename = 'metering' AND pid <> pg_backend_pid()"
        pids = [row[0] for row in connection.execute(query)]
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(each[11]) + int(each[12]) for each in fields) / TICKS


def _print(**figures: object) -> None:
    sys.stdout.write(json.dumps(figures) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
