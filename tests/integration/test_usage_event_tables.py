"""The tables of pushed usage on real PostgreSQL: what events, corrections and closed hours leave there."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from services.metering.domain.counting import BILLION
from services.metering.usage_events import Outcome
from tests import infra
from tests.integration.pushed_usage import (
    NOW,
    RECORDED,
    REPEATED,
    Store,
    arrival,
    correction,
    opened,
    void,
)


@pytest.fixture
def store(database: Callable[..., infra.Database]) -> Iterator[Store]:
    with opened(database("metering").dsn("metering")) as found:
        yield found


def test_an_event_is_recorded_once_for_ever(store: Store) -> None:
    first = store.statuses(arrival("1"), arrival("1"), arrival("1", source="other"))
    again = store.statuses(arrival("1", NOW - timedelta(days=1)), arrival("1", account_id="globex"))
    much_later = store.statuses(arrival("1"), now=NOW + timedelta(days=400))

    assert (first, again, much_later) == (
        [RECORDED, REPEATED, RECORDED],
        [REPEATED, RECORDED],
        [REPEATED],
    )
    assert [(row[0], row[6]) for row in store.rows("meter_hourly")] == [("acme", 2), ("globex", 1)]
    assert store.differing() == {}


def test_what_lies_outside_the_window_is_refused_with_the_window(store: Store) -> None:
    bounds = [NOW - timedelta(days=35), NOW + timedelta(seconds=300)]
    second = timedelta(seconds=1)

    within = store.statuses(*(arrival(f"in {each}", each) for each in bounds))
    [early, late] = store.record(arrival("early", bounds[0] - second), arrival("late", bounds[1] + second))

    assert within == [RECORDED] * 2
    assert early == late
    assert early == Outcome(
        "refused",
        "event_out_of_window",
        "time",
        "not between 2031-04-12T12:30:00+00:00 and 2031-05-17T12:35:00+00:00",
    )


def test_nothing_of_a_refused_event_is_stored_and_it_may_come_again(store: Store) -> None:
    store.define("tokens", "sum", "n")

    [refused] = store.record(arrival("1"))
    rows = store.rows("meter_hourly") + store.rows("event_keys")
    again = store.statuses(arrival("1", n=BILLION))

    assert refused == Outcome("refused", "unfit_value", "data.n", "missing; the meter tokens counts it")
    assert (rows, again) == ([], [RECORDED])


def test_every_aggregation_counts_and_is_told_again_by_the_log(store: Store) -> None:
    for name, aggregation in (("total", "sum"), ("peak", "max"), ("kinds", "unique"), ("busy", "time")):
        store.define(name, aggregation, "of" if name == "kinds" else "n", group_by=["of"])
    store.define("calls", "count", filter={"of": ["x", 'a"b\\{,}']})

    texts = ("x", "x", 'a"b\\{,}', "ä ")
    store.record(*(arrival(f"{place}", n=BILLION // 2, of=text) for place, text in enumerate(texts)))

    assert store.amounts("calls") == {(12, 12): (3, 0, "3")}
    assert sum(float(row[8]) for row in store.rows("meter_hourly", "meter = 'total'")) == 2.0
    assert {tuple(row[5]) for row in store.rows("meter_hourly", "meter = 'busy'")} == {(t,) for t in texts}
    assert store.values("kinds") == {"x": 2, 'a"b\\{,}': 1, "ä ": 1}
    assert {row[6] for row in store.rows("meter_values", "meter = 'peak'")} == {"0.5"}
    assert store.differing() == {}


def test_a_correction_counts_instead_of_what_it_corrects_and_a_void_counts_nothing(store: Store) -> None:
    store.define("total", "sum", "n")
    store.define("peak", "max", "n")
    store.record(arrival("1", n=7 * BILLION), arrival("2", n=BILLION))

    statuses = store.statuses(
        correction("1a", "1", n=5 * BILLION), correction("1b", "1", n=6 * BILLION), void("2a", "2")
    )
    again = store.statuses(correction("1a", "1", n=5 * BILLION), void("2a", "2"), void("2b", "2"))

    assert (statuses, again) == ([RECORDED] * 3, [REPEATED, REPEATED, RECORDED])
    assert store.amounts("total") == {(12, 12): (1, 0, "6.000000000")}
    assert store.amounts("usage_events") == {(12, 12): (1, 0, "1")}
    assert store.values("peak") == {"7": 0, "5": 0, "6": 1, "1": 0}
    assert store.differing() == {}


def test_a_voided_record_may_be_said_again_by_a_correction(store: Store) -> None:
    store.define("total", "sum", "n")
    store.record(arrival("1", n=7 * BILLION), void("1a", "1"))

    store.record(correction("1b", "1", n=3 * BILLION))

    assert store.amounts("total") == {(12, 12): (1, 0, "3.000000000")}


@pytest.mark.parametrize(
    ("told", "code", "field"),
    [
        ({"corrects": "nothing"}, "corrects_not_found", "corrects"),
        ({"corrects": "1a"}, "corrects_not_found", "corrects"),
        ({"corrects": "2"}, "corrects_not_found", "corrects"),
        ({"corrects": "1", "source": "other"}, "corrects_not_found", "corrects"),
        ({"corrects": "1", "account_id": "globex"}, "corrects_not_found", "corrects"),
        ({"corrects": "1", "own_only": True, "user_id": "bob"}, "corrects_not_found", "corrects"),
        ({"corrects": "1", "event_type": "other"}, "corrects_differs", "type"),
        ({"corrects": "1", "user_id": "bob"}, "corrects_differs", "subject"),
        ({"corrects": "1"}, "unfit_value", "data.n"),
    ],
)
@pytest.mark.parametrize("apart", [True, False])
def test_what_corrects_nothing_is_refused_with_its_field(
    store: Store, told: dict[str, Any], code: str, field: str, *, apart: bool
) -> None:
    store.define("total", "sum", "n")
    before = [arrival("1", n=BILLION), correction("1a", "1", n=BILLION)]
    wrong = replace(correction("2", "1"), **told)

    *_, outcome = [*store.record(*before), *store.record(wrong)] if apart else store.record(*before, wrong)

    assert (outcome.status, outcome.code, outcome.field) == ("refused", code, field)
    assert store.amounts("total") == {(12, 12): (1, 0, "1.000000000")}


def test_a_correction_of_a_closed_hour_counts_in_the_first_open_one(store: Store) -> None:
    store.define("total", "sum", "n")
    store.define("peak", "max", "n")
    old = NOW - timedelta(hours=5)
    store.record(arrival("1", old, n=7 * BILLION), arrival("2", old, n=BILLION), now=old)
    closed = store.rows("meter_hourly"), store.rows("meter_values")

    store.close("acme", NOW.replace(minute=0) - timedelta(hours=1))
    store.record(arrival("3", old, n=BILLION), correction("1a", "1", n=9 * BILLION), void("2a", "2"))

    assert store.amounts("total") == {(7, 7): (2, 0, "8.000000000"), (11, 7): (0, 1, "2.000000000")}
    assert store.rows("meter_hourly", "hour = of_hour") == closed[0]
    assert store.rows("meter_values", "hour = of_hour") == closed[1]
    assert {row[6]: row[7] for row in store.rows("meter_values", "hour <> of_hour")} == {
        "1": 0,
        "7": -1,
        "9": 1,
    }
    assert store.differing() == {}


def test_a_meter_counts_nothing_of_before_it_was_defined(store: Store) -> None:
    store.record(arrival("1", n=7 * BILLION))
    store.define("total", "sum", "n")
    store.record(correction("1a", "1", n=5 * BILLION), arrival("2", n=BILLION))
    store.meters.retire("total", actor="admin:1", now=NOW)

    after = store.statuses(void("2a", "2"), arrival("3"))

    assert after == [RECORDED] * 2
    assert store.amounts("total") == {(12, 12): (1, 0, "1.000000000")}
    assert store.amounts("usage_events") == {(12, 12): (2, 0, "2")}
    assert store.differing() == {}


def test_several_accounts_are_saved_together_and_apart(store: Store) -> None:
    statuses = store.statuses(arrival("1"), arrival("1", account_id="globex"), void("1a", "1"))

    assert statuses == [RECORDED] * 3
    assert [(row[0], row[6]) for row in store.rows("meter_hourly")] == [("acme", 0), ("globex", 1)]
    assert store.differing() == {}
