"""What meters counted, on real PostgreSQL: windows of time zones, groups, filters, pages, as of."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from contracts.metering import MeterRow
from contracts.signer import PaymentSigned
from services.metering.refusal import BadQuery
from tests import infra
from tests.integration.metered_usage import HOUR, NOON, Metered, Sources, metered, opening, payment

type Told = tuple[datetime, PaymentSigned]

# Seconds and pixels of a unit.
SECONDS_AND_PIXELS: dict[str, tuple[Fraction, int]] = {
    "live": (Fraction(1), 0),
    "lv2v": (Fraction(1, 27_648_000), 1),
    "": (Fraction(), 1),
    "fixed": (Fraction(), 0),
}
# What a payment counts in each meter, by another way of counting.
COUNTS: dict[str, Callable[[PaymentSigned], Fraction]] = {
    "payment_cost_wei": lambda told: Fraction(told.cost),
    "payment_fee_wei": lambda told: Fraction(told.units * told.price_per_unit, told.pixels_per_unit),
    "tickets": lambda told: Fraction(told.tickets),
    "pixels": lambda told: Fraction(told.units * SECONDS_AND_PIXELS[told.job_type][1]),
    "billable_seconds": lambda told: told.units * SECONDS_AND_PIXELS[told.job_type][0],
}
COLUMNS = {"user": "user_id", "key": "key_id", "account": "account_id"}


@pytest.fixture(scope="module")
def store(postgres: infra.Postgres) -> Iterator[Metered]:
    with postgres.database("metering") as database, metered(database) as made:
        yield made


@pytest.fixture(scope="module")
def paid(store: Metered) -> list[Told]:
    """Payments of five days around the end of summer time in Europe, in batches as they would come."""
    random = Random(6)
    told = [
        (NOON + timedelta(minutes=random.randrange(5 * 24 * 60)), _any_payment(random)) for _ in range(900)
    ]
    told.sort(key=lambda each: each[0])
    for start in range(0, len(told), 90):
        batch = told[start : start + 90]
        store.record(*batch, now=batch[-1][0])
    return told


def _any_payment(random: Random) -> PaymentSigned:
    return payment(
        account_id=random.choice(["acme", "bolt"]),
        session_id=f"s{random.randrange(9)}",
        user_id=random.choice([None, "ann", "bob"]),
        app=random.choice(["", "daydream"]),
        job_type=random.choice(["live", "lv2v", "fixed", ""]),
        recipient=random.choice(["0xr", "0xs"]),
        key_id=random.choice(["key-1", "key-2"]),
        capability=random.choice(["", "llm/a"]),
        tickets=random.randint(1, 5),
        cost=random.randrange(10**20),
        units=random.randrange(10**8),
        price_per_unit=random.randrange(1, 10**6),
        pixels_per_unit=random.choice([1, 3, 7, 10**6]),
    )


def day_of(at: datetime, zone: str) -> tuple[datetime, datetime]:
    """The day of a zone's calendar that the hour of a moment ends in, in whole hours of UTC."""
    place = ZoneInfo(zone)
    hour = at.replace(minute=0, second=0, microsecond=0)
    day = (hour + timedelta(minutes=59)).astimezone(place).date()
    bounds = (
        datetime(each.year, each.month, each.day, tzinfo=place).astimezone(UTC).replace(minute=0)
        for each in (day, day + timedelta(days=1))
    )
    return next(bounds), next(bounds)


def shown(value: Fraction, meter: str) -> str:
    if meter != "billable_seconds":
        return str(value // 1)
    thousandths = value * 1000 // 1
    return f"{thousandths // 1000}.{thousandths % 1000:03}"


def expected(
    paid: Sequence[Told], meter: str, keys: Sequence[str], zone: str
) -> dict[tuple[object, ...], str]:
    sums: dict[tuple[object, ...], Fraction] = defaultdict(Fraction)
    for at, told in paid:
        if meter == "pixels" and told.job_type not in {"", "lv2v"}:
            continue
        if meter == "billable_seconds" and told.job_type not in {"live", "lv2v"}:
            continue
        group = [getattr(told, COLUMNS.get(key, key)) or None for key in keys]
        sums[*day_of(at, zone), *group] += COUNTS[meter](told)
    return {key: shown(value, meter) for key, value in sums.items()}


def found(rows: Sequence[MeterRow], keys: Sequence[str]) -> dict[tuple[object, ...], str | None]:
    return {(row.window_start, row.window_end, *(row.group[key] for key in keys)): row.value for row in rows}


@pytest.mark.parametrize(
    "zone", ["UTC", "Europe/Berlin", "Asia/Kolkata", "America/St_Johns", "Asia/Kathmandu"]
)
@pytest.mark.parametrize("meter", COUNTS)
def test_days_of_a_zone_are_its_calendars(store: Metered, paid: list[Told], meter: str, zone: str) -> None:
    keys = ["account", "user", "key", "job_type", "app", "capability", "recipient"]

    asked = {"window": "day", "time_zone": zone, "from_at": NOON - 72 * HOUR, "to_at": NOON + 240 * HOUR}

    whole = store.ask(meter, **asked, group_by=keys, limit=1000)
    paged = store.every(meter, **asked, account_id="acme", group_by=["job_type"])

    assert found(whole, keys) == expected(paid, meter, keys, zone)
    assert paged == store.ask(meter, **asked, account_id="acme", group_by=["job_type"], limit=1000)


def test_the_day_clocks_are_put_back_has_25_hours(store: Metered, paid: list[Told]) -> None:
    rows = store.ask("tickets", window="day", time_zone="Europe/Berlin", account_id="acme")

    hours = [
        (row.window_end - row.window_start) // HOUR for row in rows if row.window_end and row.window_start
    ]
    assert hours[1:-1] == [25, 24, 24, 24]
    assert sum(int(row.value or 0) for row in rows) == sum(
        told.tickets for _, told in paid if told.account_id == "acme"
    )


def test_hours_and_months_cover_what_days_do(store: Metered, paid: list[Told]) -> None:
    total = store.total("payment_cost_wei")

    for window in ("hour", "day", "month"):
        rows = store.ask("payment_cost_wei", window=window, time_zone="Asia/Tokyo", limit=1000)
        assert str(sum(int(row.value or 0) for row in rows)) == total
        assert all(
            one.window_end is not None
            and other.window_start is not None
            and one.window_end <= other.window_start
            for one, other in pairwise(rows)
        )
    assert total == str(sum(told.cost for _, told in paid))


def test_windows_are_cut_to_what_is_asked(store: Metered, paid: list[Told]) -> None:
    from_at, to_at = NOON + 5 * HOUR, NOON + 40 * HOUR

    rows = store.ask("tickets", window="day", from_at=from_at, to_at=to_at)

    assert (rows[0].window_start, rows[-1].window_end) == (from_at, to_at)
    assert [row.window_start for row in rows[1:]] == [NOON + 12 * HOUR, NOON + 36 * HOUR]
    inside = sum(told.tickets for at, told in paid if from_at <= at < to_at)
    assert sum(int(row.value or 0) for row in rows) == inside
    [whole] = store.ask("tickets", from_at=from_at, to_at=to_at)
    assert (whole.window_start, whole.window_end, whole.value) == (from_at, to_at, str(inside))


@pytest.mark.parametrize(
    ("filters", "is_in"),
    [
        ({"user": "ann"}, lambda told: told.user_id == "ann"),
        ({"user": ""}, lambda told: told.user_id is None),
        ({"app": "daydream", "key": "key-2"}, lambda told: (told.app, told.key_id) == ("daydream", "key-2")),
        ({"capability": "llm/a"}, lambda told: told.capability == "llm/a"),
        ({"recipient": "0xnone"}, lambda _: False),
        (
            {"job_type": "live", "account": "bolt"},
            lambda told: (told.job_type, told.account_id) == ("live", "bolt"),
        ),
    ],
)
def test_filters_leave_what_they_name(
    store: Metered, paid: list[Told], filters: dict[str, str], is_in: Callable[[PaymentSigned], bool]
) -> None:
    inside = [told.cost for _, told in paid if is_in(told)]

    assert store.total("payment_cost_wei", filters=filters) == str(sum(inside))
    assert store.sums(filters=filters) == [(len(inside), sum(inside))]


def test_nothing_is_zero_in_a_whole_and_no_row_in_groups(store: Metered, paid: list[Told]) -> None:
    assert paid
    assert store.total("tickets", account_id="nobody") == "0"
    assert store.total("billable_seconds", account_id="nobody") == "0.000"
    assert store.ask("tickets", account_id="nobody", group_by=["user"]) == []
    assert store.ask("tickets", account_id="nobody", window="day") == []
    assert store.ask("tickets", from_at=NOON, to_at=NOON, window="day") == []


@pytest.mark.parametrize(
    ("meter", "asked", "told"),
    [
        ("teapots", {}, "meter: there is no 'teapots'"),
        ("usage_\0", {}, "meter: there is no"),
        ("tickets", {"group_by": ["stream"]}, "group_by: tickets has no 'stream'"),
        ("stream_seconds", {"group_by": ["key"]}, "group_by: stream_seconds has no 'key'"),
        ("tickets", {"filters": {"type": "x"}}, "filters: tickets has no 'type'"),
        ("tickets", {"group_by": ["user", "user"]}, "group_by names a key twice"),
        ("tickets", {"from_at": NOON + HOUR / 2}, "from_at is not a whole hour"),
        ("tickets", {"time_zone": "Mars/Olympus"}, "time_zone: 'Mars/Olympus'"),
        ("tickets", {"time_zone": "../etc/passwd"}, "time_zone: '../etc/passwd'"),
        ("tickets", {"after": ["x"]}, "after is not a row"),
        ("tickets", {"window": "day", "after": ["x"]}, "no time where one is due"),
        ("tickets", {"window": "day", "after": ["2026-10-24T12:00:00"]}, "without a time zone"),
        ("tickets", {"filters": {"app": "a\0"}}, "zero byte"),
        ("tickets", {"to_at": "9999-12-31T00:00:00-10:00"}, "to_at lies outside of the years"),
        ("tickets", {"as_of": "0001-01-01T00:00:00+10:00"}, "as_of lies outside of the years"),
        ("tickets", {"window": "day", "after": ["0001-01-01T00:00:00+10:00"]}, "far away"),
        (
            "tickets",
            {"window": "hour", "from_at": datetime(1999, 1, 1, tzinfo=UTC), "to_at": NOON},
            "more than 10000 windows",
        ),
        (
            "tickets",
            {"window": "month", "from_at": datetime(1, 1, 1, tzinfo=UTC), "to_at": NOON},
            "from_at lies outside of the years 1971 to",
        ),
    ],
)
def test_a_query_without_sense_is_refused(
    store: Metered, paid: list[Told], meter: str, asked: dict[str, Any], told: str
) -> None:
    assert paid
    with pytest.raises(BadQuery, match=told.replace("(", r"\(")):
        store.ask(meter, **asked)


def test_sessions_count_in_the_hour_of_their_opening(database: Sources) -> None:
    with metered(database("metering")) as store:
        store.record(
            (NOON - timedelta(seconds=1), opening(session_id="s1")),
            (NOON, opening(session_id="s2", key_id="key-2")),
            (NOON, opening(session_id="s3", user_id=None)),
            (NOON, payment()),
            now=NOON,
        )

        rows = store.ask("sessions", window="hour", group_by=["key"])

        told = [(row.window_start, row.group["key"], row.value) for row in rows]
        assert told == [(NOON - HOUR, "key-1", "1"), (NOON, "key-1", "1"), (NOON, "key-2", "1")]
        assert store.total("sessions", filters={"user": "ann"}) == "2"
        assert store.sums(group_by=["recipient"]) == [(1, 101)]  # openings name none, and are no payments


def test_what_comes_late_is_marked(database: Sources) -> None:
    with metered(database("metering")) as store:
        store.record((NOON, payment()), (NOON, payment()), now=NOON + 2 * HOUR - timedelta(seconds=1))
        store.record((NOON, payment()), (NOON + HOUR, payment()), now=NOON + 2 * HOUR)
        store.run_stream(NOON, NOON + timedelta(seconds=90), now=NOON + 2 * HOUR)

        rows = store.ask("tickets", window="hour")

        assert [(row.value, row.late, row.of) for row in rows] == [("9", 1, []), ("3", 0, [])]
        [streams] = store.ask("stream_seconds", group_by=["user", "app"])
        assert (streams.value, streams.late) == ("90.000", 90)


class TestDefinedMeters:
    """Meters of administrators, as their tables have them."""

    HOURLY = "INSERT INTO metering.meter_hourly VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)"
    VALUES = "INSERT INTO metering.meter_values VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"
    DEFINE = "INSERT INTO metering.meters VALUES (%s, 'llm.call', %s, 'tokens', %s, NULL, now(), NULL)"

    @pytest.fixture
    def own(self, database: Sources) -> Iterator[Metered]:
        with metered(database("metering")) as store:
            store.rows(self.DEFINE, ("tokens", "sum", ["model", "place"]))
            store.rows(self.DEFINE, ("longest", "max", ["model"]))
            store.rows(self.DEFINE, ("callers", "unique", []))
            yield store

    def test_sums_are_exact_and_grouped_by_their_own_names(self, own: Metered) -> None:
        for hour, groups, amount in (
            (NOON, ["a", "x"], "0.1"),
            (NOON, ["b", ""], "2.50"),
            (NOON + HOUR, ["a", "x"], "123456789012345678901234567890.2"),
        ):
            own.rows(self.HOURLY, ("acme", "tokens", hour, hour, "ann", groups, 1, 0, amount))
        own.rows(self.HOURLY, ("acme", "usage_events", NOON, NOON, "ann", ["llm.call"], 3, 1, 3))

        rows = own.ask("tokens", group_by=["model"])

        assert [(row.group["model"], row.value) for row in rows] == [
            ("a", "123456789012345678901234567890.3"),
            ("b", "2.5"),
        ]
        assert own.total("tokens", filters={"place": ""}) == "2.5"
        assert own.total("tokens", account_id="bolt") == "0"
        [events] = own.ask("usage_events", group_by=["type"])
        assert (events.group["type"], events.value, events.late) == ("llm.call", "3", 1)
        assert len(own.every("tokens", window="hour", group_by=["place", "user"])) == 3

    def test_an_amount_counts_in_an_hour_that_has_no_record(self, own: Metered) -> None:
        own.rows(self.DEFINE, ("busy", "time", []))
        for hour, records, amount in ((NOON - HOUR, 0, "3600.000"), (NOON, 1, "12.500")):
            own.rows(self.HOURLY, ("acme", "busy", hour, hour, "", [], records, 0, amount))

        assert own.total("busy") == "3612.5"
        assert [row.value for row in own.ask("busy", window="hour")] == ["3600", "12.5"]

    def test_values_taken_back_in_another_hour_count_no_more(self, own: Metered) -> None:
        may = NOON - 24 * 160 * HOUR
        for meter, hour, of_hour, groups, value, records in (
            ("longest", NOON, NOON, ["a"], "9.5", 1),
            ("longest", NOON, NOON, ["a"], "10", 1),
            ("longest", NOON + HOUR, NOON, ["a"], "10", -1),
            ("callers", NOON, NOON, [], "one", 2),
            ("callers", NOON + HOUR, may, [], "two", 1),
            ("callers", NOON, NOON, [], "gone", 0),
        ):
            own.rows(self.VALUES, ("acme", meter, hour, of_hour, "", groups, value, records))

        [callers] = own.ask("callers")
        assert (callers.value, callers.of) == ("2", ["2026-05"])
        assert own.total("longest", group_by=["model"]) == "9.5"
        assert own.total("longest", to_at=NOON + HOUR) == "10"
        assert own.total("longest", account_id="bolt") is None
        assert own.total("callers", account_id="bolt") == "0"
        by_hour = own.ask("callers", window="hour")
        assert [row.value for row in by_hour] == ["1", "1"]
