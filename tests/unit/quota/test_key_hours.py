"""An hour in which a key spends many times what it did is an alarm."""

from datetime import timedelta
from typing import Any

import pytest

from contracts.limits import Alarms
from services.quota.domain.limits import Limits
from services.quota.domain.sub_budget import SubBudget
from tests.unit.quota.ledger import NOW
from tests.unit.quota.watched import FLOOR, KEY, Watched


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_an_hour_beyond_so_many_times_the_highest_is_an_alarm_once(watched: Watched) -> None:
    watched.spend(20)
    watched.pass_time(hours=1)
    watched.spend(11)
    watched.pass_time(days=1)

    watched.spend(100)
    before = watched.told
    watched.spend(1)
    watched.spend(500)

    assert before == []
    [alarm] = watched.alarms
    assert (alarm.alarm, alarm.value, alarm.spent_wei, alarm.usual_wei) == ("spend", "", 101, 20)


def test_the_next_hour_is_compared_with_the_one_that_was_an_alarm(watched: Watched) -> None:
    watched.spend(20)
    watched.pass_time(days=1)
    watched.spend(101)

    watched.pass_time(hours=1)
    watched.spend(505)
    quiet = len(watched.alarms)
    watched.spend(1)

    assert quiet == 1
    assert [(alarm.spent_wei, alarm.usual_wei) for alarm in watched.alarms] == [(101, 20), (506, 101)]


def test_what_is_usual_counts_as_the_floor_at_least(watched: Watched) -> None:
    watched.spend(1)
    watched.pass_time(days=1)

    watched.spend(5 * FLOOR)
    quiet = watched.told
    watched.spend(1)

    assert quiet == []
    assert watched.told == [("spend", "")]


def test_the_highest_hour_of_seven_days_is_kept_and_no_more(watched: Watched) -> None:
    for spent in range(30, 40):
        watched.spend(spent)
        watched.pass_time(days=1)

    days = [(NOW + timedelta(days=number)).date() for number in range(3, 10)]
    assert [(row.day, row.spent_wei) for row in watched.activity.highest_hours] == [
        (day, 30 + number) for number, day in reversed(list(enumerate(days, start=3)))
    ]
    assert watched.activity.spent_this_hour_wei == 0
    books: SubBudget = watched.quota.repository.get(SubBudget.create_id(*KEY.ids))
    assert len(books.peaks) <= 8


def test_after_a_quiet_week_nothing_is_usual(watched: Watched) -> None:
    watched.spend(1000)
    watched.pass_time(days=8)

    watched.spend(5 * FLOOR + 1)

    [alarm] = watched.alarms
    assert (alarm.spent_wei, alarm.usual_wei) == (36, 0)


def test_a_key_has_books_where_its_spend_may_be_an_alarm() -> None:
    assert Limits(alarms=Alarms().model_dump()).count_spend
    assert not Limits(alarms=Alarms(spend_times=None).model_dump()).count_spend


def test_books_from_before_highest_hours_are_read() -> None:
    state: dict[str, Any] = {"warned": {}}

    SubBudget.upcast_v1_v2(state)

    assert state["peaks"] == {}
