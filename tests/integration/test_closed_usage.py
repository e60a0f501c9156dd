"""Closed hours never change, whatever comes late; and usage as it was known at a moment."""

import time
from collections.abc import Iterator
from datetime import timedelta
from threading import Thread

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg.rows import DictRow

from contracts.metering import MeterRow
from services.metering import as_of
from services.metering.domain.period import UsageAlreadyClosed
from services.metering.refusal import BadQuery
from tests import infra
from tests.integration.metered_usage import HOUR, NOON, Metered, Sources, metered, opening, payment

TABLES = ("usage_hourly", "stream_hourly")
ALL_TABLES = (*TABLES, "sessions", "streams", "deliveries", "closings", "audit", "metering_events")
METERS = ("payment_cost_wei", "payment_fee_wei", "tickets", "sessions", "billable_seconds", "stream_seconds")
ACCOUNTS = ("acme", "bolt")

type Answers = dict[str, list[MeterRow]]

# What happens: hours it lies back, and of which account.
steps = st.lists(
    st.tuples(
        st.sampled_from(["pay", "pay", "stream", "assign", "close"]),
        st.integers(0, 30),
        st.sampled_from(ACCOUNTS),
    ),
    max_size=12,
)


@pytest.fixture(scope="module")
def store(postgres: infra.Postgres) -> Iterator[Metered]:
    with postgres.database("metering") as database, metered(database) as made:
        yield made


def empty(store: Metered) -> None:
    for table in ALL_TABLES:
        store.rows(f"TRUNCATE metering.{table}")
    store.metering.forget_all()
    store.entries.clear()


def closed_rows(store: Metered) -> list[DictRow]:
    return [
        row
        for table in TABLES
        for row in store.rows(
            f"SELECT * FROM metering.{table} AS t WHERE hour <"
            " (SELECT until FROM metering.closings AS c WHERE c.account_id = t.account_id)"
            f" ORDER BY t::text"
        )
    ]


def answers(store: Metered, **asked: object) -> Answers:
    keys = ["account", "user"]
    return {meter: store.ask(meter, window="hour", group_by=keys, limit=1000, **asked) for meter in METERS}


def do(store: Metered, number: int, step: tuple[str, int, str]) -> None:
    """One thing each 50 minutes."""
    what, back, account = step
    now = NOON + number * timedelta(minutes=50)
    then = now - back * HOUR
    match what:
        case "pay":
            told = {"account_id": account, "session_id": f"s{number}"}
            store.record((then, opening(**told)), (then, payment(**told, cost=7**number)), now=now)
        case "stream":
            store.run_stream(then - 2 * HOUR, then, now=now, account=account, stream=f"t{number % 3}")
        case "assign":
            rows = store.rows("SELECT * FROM metering.streams WHERE account_id = %s LIMIT 1", (account,))
            for row in rows:
                store.streaming.assign(
                    account, row["stream_id"], f"user-{number % 4}", actor="a", reason="r", now=now
                )
        case "close":
            until = then.replace(minute=0)
            try:
                store.close(account, until, now)
            except UsageAlreadyClosed:
                return


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(told=steps)
@example([("stream", 27, "acme"), *[("pay", 0, "acme")] * 5, ("stream", 30, "acme")])
def test_closed_hours_stay_and_nothing_is_lost(store: Metered, told: list[tuple[str, int, str]]) -> None:
    empty(store)
    for number, step in enumerate(told):
        if step[0] != "close":
            do(store, number, step)
    without = [store.ask(meter, group_by=["account"]) for meter in METERS]
    empty(store)

    known: list[Answers] = []
    for number, step in enumerate(told):
        closed = closed_rows(store)
        do(store, number, step)
        if step[0] != "close":
            assert closed_rows(store) == closed
        known.append(answers(store))

    with_closings = [store.ask(meter, group_by=["account"]) for meter in METERS]
    assert [[row.value for row in rows] for rows in with_closings] == [
        [row.value for row in rows] for rows in without
    ]
    assert store.differing() == {}
    before = {table: store.rows(f"SELECT * FROM metering.{table} AS t ORDER BY t::text") for table in TABLES}
    store.rebuild()
    assert before == {
        table: store.rows(f"SELECT * FROM metering.{table} AS t ORDER BY t::text") for table in TABLES
    }
    for number, answered in enumerate(known):
        moment = NOON + number * timedelta(minutes=50)
        assert answers(store, as_of=moment) == answered
    assert all(not rows for rows in answers(store, as_of=NOON - HOUR).values())


def test_a_late_payment_of_a_closed_month_says_which(store: Metered) -> None:
    empty(store)
    december = NOON.replace(month=12, day=1, hour=0)
    store.record((december - HOUR, payment(cost=5)), now=december)
    store.close("acme", december, december + HOUR)
    store.record(
        (december - 2 * HOUR, payment(cost=7)), (december + HOUR, payment(cost=11)), now=december + 2 * HOUR
    )

    rows = store.ask("payment_cost_wei", window="month")

    assert [(row.value, row.late, row.of) for row in rows] == [("5", 0, []), ("18", 1, ["2026-11"])]
    [berlin] = store.ask("payment_cost_wei", account_id="acme", time_zone="Asia/Tokyo", from_at=december)
    assert berlin.of == ["2026-12"]  # there it was the first day of December


def test_as_of_says_how_far_it_reaches(store: Metered, monkeypatch: pytest.MonkeyPatch) -> None:
    empty(store)
    monkeypatch.setattr(as_of, "BATCHES_MAX", 3)
    for number in range(6):
        store.record((NOON, payment(tickets=1)), now=NOON + number * HOUR)

    assert store.total("tickets", as_of=NOON + 2 * HOUR) == "3"
    with pytest.raises(BadQuery, match=r"it reaches back to 2026-10-24T14:00:00\.000000Z"):
        store.total("tickets", as_of=NOON + HOUR)
    assert store.total("tickets", as_of=NOON + 9 * HOUR) == "6"


def test_a_closing_waits_for_what_is_being_booked(store: Metered) -> None:
    """Or the log would tell the closing before what was booked into the hours it closed."""
    empty(store)
    store.record((NOON, payment(tickets=1)), now=NOON)
    closing = Thread(target=store.close, args=("acme", NOON + HOUR, NOON + HOUR))

    def close_meanwhile(_: object) -> None:
        closing.start()
        give_up_at = time.monotonic() + 10
        while closing.is_alive() and not store.rows(WAITING) and time.monotonic() < give_up_at:
            time.sleep(0.01)

    store.record_last((NOON, payment(tickets=2)), now=NOON, then=close_meanwhile)
    closing.join(10)

    assert not closing.is_alive()
    assert store.total("tickets", to_at=NOON + HOUR) == "3"
    assert store.differing() == {}


WAITING = "SELECT 1 AS waits FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"

OLD_TABLES = (
    "DROP TABLE metering.usage_hourly, metering.stream_hourly, metering.closings",
    (
        "CREATE TABLE metering.usage_hourly (account_id text, user_id text, job_type text, app text,"
        " recipient text, hour timestamptz, fee_denominator bigint, payments bigint NOT NULL,"
        " tickets bigint NOT NULL, cost numeric NOT NULL, ev_numerator numeric NOT NULL,"
        " fee_numerator numeric NOT NULL,"
        " PRIMARY KEY (account_id, hour, user_id, job_type, app, recipient, fee_denominator))"
    ),
    "CREATE INDEX usage_hourly_by_hour ON metering.usage_hourly (hour)",
    (
        "INSERT INTO metering.usage_hourly VALUES"
        " ('acme', 'ann', 'live', 'daydream', '0xr', '2026-10-24T12:00Z', 3, 2, 6, 202, 8, 9)"
    ),
    (
        "CREATE TABLE metering.stream_hourly (account_id text, user_id text, app text, hour timestamptz,"
        " ms bigint NOT NULL, late_ms bigint NOT NULL, PRIMARY KEY (account_id, hour, user_id, app))"
    ),
    "INSERT INTO metering.stream_hourly VALUES ('acme', 'ann', 'demo', '2026-10-24T12:00Z', 1500, 0)",
)


def test_tables_of_the_first_version_are_taken_along(database: Sources) -> None:
    with metered(database("metering")) as store:
        for statement in OLD_TABLES:
            store.rows(statement)
        for _ in range(2):
            store.create_tables()

        store.record((NOON, payment(job_type="live")), now=NOON)
        store.run_stream(NOON, NOON + HOUR / 4, now=NOON + HOUR)

        assert store.total("payment_cost_wei") == "303"
        assert store.total("stream_seconds") == "901.500"
        told = {row["key"]: row["value"] for row in _by_key(store)}
        assert told == {None: "6", "key-1": "3"}
        store.rebuild()
        assert store.differing() == {}
        assert store.total("payment_cost_wei") == "101"  # the log knows of no more


def _by_key(store: Metered) -> list[dict[str, str | None]]:
    return [{"key": row.group["key"], "value": row.value} for row in store.ask("tickets", group_by=["key"])]
