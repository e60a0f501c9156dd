"""Amounts as the console shows them, and the days and months it counts them in."""

from datetime import UTC, datetime, timedelta

import pytest

from services.edge.console.amounts import eth, micro_usd, usd
from services.edge.console.days import Calendar, Hour
from services.edge.console.words import duration

RATE = 3_000_000_000


@pytest.mark.parametrize(
    ("wei", "text"),
    [
        (0, "0"),
        (1, "0.000000000000000001"),
        (1_700_000_000_007, "0.0000017"),
        (123_449_999_999_999_999, "0.1234"),
        (123_450_000_000_000_000, "0.1235"),
        (999_960_000_000_000_000, "1"),
        (10**18, "1"),
        (1_234_567 * 10**15, "1,235"),
        (2**256 - 1, "115,792,089,237,316,195,423,570,985,008,687,907,853,269,984,665,640,564,039,458"),
    ],
)
def test_eth_has_four_significant_digits(wei: int, text: str) -> None:
    assert eth(wei) == text


@pytest.mark.parametrize(
    ("wei", "text"), [(10**16, "0.01000"), (0, "0.00000"), (1, "<0.00001"), (5 * 10**12, "0.00001")]
)
def test_a_column_has_the_decimals_of_its_largest(wei: int, text: str) -> None:
    assert eth(wei, among=10**16) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "$0.00"),
        (5, "$0.000005"),
        (5_100, "$0.0051"),
        (51_234, "$0.0512"),
        (999_999, "$1.00"),
        (1_005_000, "$1.01"),
        (1_234_567_890, "$1,234.57"),
    ],
)
def test_dollars_have_cents_and_more_where_they_are_few(amount: int, text: str) -> None:
    assert micro_usd(amount) == text


def test_wei_are_worth_whole_micro_dollars_rounded_half_up() -> None:
    assert usd(1_700_000_000_007, RATE) == "$0.0051"
    assert usd(166_666_666, RATE) == "$0.00"
    assert usd(166_666_667, RATE) == "$0.000001"


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(999, "0 s"), (59_999, "59 s"), (125_000, "2 min 05 s"), (3_725_000, "1 h 02 min")],
)
def test_durations(milliseconds: int, text: str) -> None:
    assert duration(milliseconds) == text


def hour(at: datetime, wei: int) -> Hour:
    return Hour(at, wei, 1, 1)


def test_days_and_months_are_those_of_the_time_zone() -> None:
    now = datetime(2031, 5, 31, 23, 30, tzinfo=UTC)  # in Berlin it is June
    berlin, utc = Calendar.of(now, "Europe/Berlin"), Calendar.of(now, "UTC")

    assert berlin.month_from == datetime(2031, 5, 31, 22, tzinfo=UTC)
    assert berlin.today == (datetime(2031, 5, 31, 22, tzinfo=UTC), datetime(2031, 6, 1, 22, tzinfo=UTC))
    assert (berlin.month_name, utc.month_name) == ("June", "May")
    assert (len(berlin.days) - 1, len(utc.days) - 1) == (30, 31)


@pytest.mark.parametrize(("month", "day", "hours"), [(3, 30, 23), (10, 26, 25)])
def test_a_day_on_which_clocks_change_has_as_many_hours_as_it_lasts(month: int, day: int, hours: int) -> None:
    calendar = Calendar.of(datetime(2031, month, day, 20, tzinfo=UTC), "Europe/Berlin")

    assert len(calendar.day_chart([]).names) == hours


def test_every_hour_is_in_one_day_though_midnight_lies_within_it() -> None:
    now = datetime(2031, 5, 17, 8, 5, tzinfo=UTC)
    calendar = Calendar.of(now, "Asia/Kolkata")  # half an hour off
    first = calendar.month_from
    hours = [
        hour(first + timedelta(hours=n), 10**n % 97) for n in range((now - first) // timedelta(hours=1) + 1)
    ]

    month, day = calendar.month_chart(hours), calendar.day_chart(hours)

    assert sum(bar.wei for bar in month.bars) == sum(each.wei for each in hours)
    assert sum(bar.wei for bar in day.bars) == month.bars[-1].wei
    assert first == datetime(2031, 4, 30, 18, tzinfo=UTC)
    assert [bar.name for bar in month.bars] == [f"{number} May" for number in range(1, 18)]


def test_a_chart_has_room_for_what_is_to_come_and_bars_for_what_was() -> None:
    calendar = Calendar.of(datetime(2031, 5, 17, 8, 5, tzinfo=UTC), "UTC")
    hours = [hour(datetime(2031, 5, 17, 7, tzinfo=UTC), 5), hour(datetime(2031, 5, 16, 7, tzinfo=UTC), 3)]

    day, month = calendar.day_chart(hours), calendar.month_chart(hours)

    assert (len(day.names), len(day.bars), day.bars[7].wei, day.bars[7].name) == (24, 9, 5, "07:00")
    assert (len(month.names), [bar.wei for bar in month.bars[-2:]]) == (31, [3, 5])
