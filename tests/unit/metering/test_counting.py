"""What records add to which hour of which meter, exactly."""

from collections.abc import Mapping
from typing import Any

import pytest

from services.metering.domain.counting import (
    BILLION,
    Counted,
    HourKey,
    HourSum,
    Said,
    Unfit,
    Value,
    ValueKey,
    billionths,
    is_late,
    pieces,
    text_of,
    unfit,
)
from services.metering.domain.meters import Counting, Meter, Meters
from services.metering.domain.usage import HOUR_MICROSECONDS, moment

HOUR = 537_996  # 2031-05-17T12:00Z
START = HOUR * HOUR_MICROSECONDS
SECOND = 1_000_000


def meters(*definitions: Meter) -> Meters:
    found = Meters(timestamp=moment(START))
    for each in definitions:
        found.define(each, actor="admin:1", now=moment(START))
    return found


def meter(aggregation: str = "sum", **told: Any) -> Meter:
    defaults = {"name": "tokens", "event_type": "used", "value": "tokens", "group_by": [], "filter": {}}
    return Meter.of(**{"aggregation": aggregation, **defaults, **told})


def said(at: int = START, *, since: int = 99, late: bool = False, **data: Value) -> Said:
    return Said("used", "ann", at, late, since, data)


def counted(found: Meters, *records: Said, first_open: int = 0) -> Counted:
    rows = Counted(first_open)
    for record in records:
        rows.add(Counting(found), record, 1)
    return rows


def hours(rows: Counted, name: str = "tokens") -> Mapping[HourKey, HourSum]:
    return {key: total for key, total in rows.hours.items() if key.meter == name}


def test_every_record_counts_by_its_type() -> None:
    rows = counted(meters(), said(), said(late=True))

    assert rows.hours == {HourKey("usage_events", HOUR, HOUR, "ann", ("used",)): HourSum(2, 1, 2, 0)}


def test_decimals_are_summed_exactly_by_group() -> None:
    found = meters(meter(group_by=["model", "fast"]))
    records = [
        said(tokens=BILLION // 10, model="small", fast=True),
        said(tokens=2 * BILLION // 10, fast=True),
    ]

    rows = counted(found, *records, records[0])

    by_groups = {key.groups: total for key, total in hours(rows).items()}
    assert by_groups == {
        ("small", "true"): HourSum(2, 0, 200_000_000, 9),
        ("", "true"): HourSum(1, 0, 200_000_000, 9),
    }


def test_a_filter_lets_only_its_values_count() -> None:
    found = meters(meter(filter={"model": ["small", "7.5"]}))
    models: list[Value] = ["small", 7_500_000_000, "large", False]

    rows = counted(found, *(said(tokens=BILLION, model=model) for model in models), said(tokens=BILLION))

    assert [total.records for total in hours(rows).values()] == [2]


def test_a_duration_counts_in_the_hours_it_lies_in() -> None:
    found = meters(meter("time", value="seconds"))
    ended = said(START + 90 * SECOND, seconds=3_700 * BILLION + 999_999)

    rows = counted(found, ended)

    assert {key.of_hour: total for key, total in hours(rows).items()} == {
        HOUR: HourSum(1, 0, 90_000, 3),
        HOUR - 1: HourSum(0, 0, 3_600_000, 3),
        HOUR - 2: HourSum(0, 0, 10_000, 3),
    }


@pytest.mark.parametrize(
    ("end_ms", "duration_ms", "expected"),
    [
        (0, 0, {}),
        (0, 1, {HOUR - 1: 1}),
        (1, 1, {HOUR: 1}),
        (1, 2, {HOUR: 1, HOUR - 1: 1}),
        (0, 3_600_000, {HOUR - 1: 3_600_000}),
        (0, 3_600_001, {HOUR - 1: 3_600_000, HOUR - 2: 1}),
    ],
)
def test_pieces_of_a_duration_add_up_to_it(end_ms: int, duration_ms: int, expected: dict[int, int]) -> None:
    assert pieces(START + end_ms * 1_000 + 999, duration_ms * 10**6 + 999_999) == expected


def test_of_a_maximum_each_value_is_kept_and_of_unique_ones_as_well() -> None:
    found = meters(meter("max", name="peak"), meter("unique", name="models", value="model"))

    rows = counted(found, said(tokens=7 * BILLION, model="a"), said(tokens=7 * BILLION, model=True))

    assert rows.values == {
        ValueKey("peak", HOUR, HOUR, "ann", (), "7"): 2,
        ValueKey("models", HOUR, HOUR, "ann", (), "a"): 1,
        ValueKey("models", HOUR, HOUR, "ann", (), "true"): 1,
    }


def test_what_is_of_closed_hours_counts_in_the_first_open_one() -> None:
    found = meters(meter("time", value="seconds"), meter("max", name="peak", value="seconds"))
    ended = said(START + 10 * SECOND, seconds=20 * BILLION)

    rows = counted(found, ended, first_open=HOUR)

    assert {(key.hour, key.of_hour): total.amount for key, total in hours(rows).items()} == {
        (HOUR, HOUR): 10_000,
        (HOUR, HOUR - 1): 10_000,
    }
    assert [(key.hour, key.of_hour) for key in rows.values] == [(HOUR, HOUR)]


def test_what_is_taken_back_leaves_nothing() -> None:
    found = meters(meter(), meter("unique", name="models", value="model"))
    rows = counted(found, said(tokens=BILLION, model="a", late=True))

    rows.add(Counting(found), said(tokens=BILLION, model="a", late=True), -1)

    assert {total[:3] for total in rows.hours.values()} == {(0, 0, 0)}
    assert set(rows.values.values()) == {0}


def test_a_meter_counts_what_was_recorded_since_it_was_defined_and_until_it_is_retired() -> None:
    found = meters(meter())
    before, after = said(since=1, tokens=BILLION), said(since=2, tokens=BILLION)

    then = counted(found, before, after)
    found.retire("tokens", actor="admin:1", now=moment(START))

    assert [total.records for total in hours(then).values()] == [1]
    assert not hours(counted(found, after))


@pytest.mark.parametrize(
    ("aggregation", "data", "problem"),
    [
        ("sum", {}, "missing; the meter tokens counts it"),
        ("sum", {"tokens": "7"}, "no number; the meter tokens counts it"),
        ("max", {"tokens": True}, "no number; the meter tokens counts it"),
        ("time", {"tokens": -1}, "not within 0 and 86400 seconds; the meter tokens counts it"),
        (
            "time",
            {"tokens": 86_400 * BILLION + 1},
            "not within 0 and 86400 seconds; the meter tokens counts it",
        ),
        ("unique", {}, "missing; the meter tokens counts it"),
        ("sum", {"tokens": -1}, None),
        ("time", {"tokens": 86_400 * BILLION}, None),
        ("unique", {"tokens": False}, None),
    ],
)
def test_a_value_that_does_not_fit_is_told_with_its_field(
    aggregation: str, data: dict[str, Value], problem: str | None
) -> None:
    found = unfit(meter(aggregation), data)

    assert found == (Unfit("data.tokens", problem) if problem else None)


def test_what_a_filter_keeps_out_may_have_any_value() -> None:
    assert unfit(meter(filter={"model": ["a"]}), {"model": "b"}) is None
    assert unfit(Meter.of("calls", "used", "count", "", [], {}), {}) is None


@pytest.mark.parametrize(
    ("number", "exact"),
    [
        ("0", 0),
        ("1", BILLION),
        ("-0.5", -BILLION // 2),
        ("12.345678901", 12_345_678_901),
        ("-7", -7 * BILLION),
    ],
)
def test_numbers_are_whole_billionths_and_read_as_they_were_told(number: str, exact: int) -> None:
    assert billionths(number) == exact
    assert text_of(exact) == number


def test_late_is_what_comes_more_than_an_hour_after_its_hour_was_over() -> None:
    over = START + HOUR_MICROSECONDS

    assert not is_late(START, over + HOUR_MICROSECONDS - 1)
    assert is_late(over - 1, over + HOUR_MICROSECONDS)
