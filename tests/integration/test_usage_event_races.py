"""Pushed usage beside others: processes with the same events, meters that change, hours that close."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest

from services.metering.domain.counting import BILLION
from services.metering.domain.meters import Counting
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


def test_many_processes_with_the_same_events_record_each_once(
    database: Callable[..., infra.Database],
) -> None:
    dsn = database("metering").dsn("metering")
    with opened(dsn) as one, opened(dsn) as other:
        one.define("total", "sum", "n")
        ids = [f"{number}" for number in range(60)]
        together = threading.Barrier(2)

        def push(store: Store) -> list[str]:
            together.wait(10)
            found = []
            for event_id in ids:
                found += store.statuses(
                    arrival(event_id, n=BILLION), void(f"{event_id} v {id(store)}", event_id)
                )
                found += store.statuses(correction(f"{event_id} c", event_id, n=2 * BILLION))
            return found

        with ThreadPoolExecutor(2) as threads:
            statuses = [*threads.map(push, (one, other))]

        assert {status for each in statuses for status in each} <= {RECORDED, REPEATED}
        recorded = sum(each.count(RECORDED) for each in statuses)
        assert recorded == len(one.rows("event_keys")) == 4 * len(ids)
        assert one.differing() == {}


def test_meters_that_change_meanwhile_count_what_is_recorded_after_them(
    database: Callable[..., infra.Database],
) -> None:
    dsn = database("metering").dsn("metering")
    with opened(dsn) as one, opened(dsn) as other, ThreadPoolExecutor(1) as threads:
        for number in range(20):
            changing = threads.submit(other.define, f"meter_{number}", "count")
            assert one.statuses(arrival(f"{number} a")) == [RECORDED]
            assert one.statuses(arrival(f"{number} b")) == [RECORDED]
            changing.result(10)

        assert one.differing() == {}


def test_hours_that_are_closed_before_the_commit_do_not_change(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    until = NOW.replace(minute=0) - timedelta(hours=1)
    closed: list[datetime] = []
    read = store.usage_events._first_open  # noqa: SLF001

    def closing_meanwhile(accounts: list[str]) -> dict[str, int]:
        found = read(accounts)
        if not closed:
            store.close("acme", until)
            closed.append(until)
        return found

    monkeypatch.setattr(store.usage_events, "_first_open", closing_meanwhile)

    statuses = store.statuses(arrival("1", NOW - timedelta(hours=5)))

    assert statuses == [RECORDED]
    assert store.amounts("usage_events") == {(11, 7): (1, 1, "1")}
    assert store.differing() == {}


def test_a_meter_that_is_defined_before_the_commit_counts_what_it_stores(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = store.meters.counting
    defined: list[str] = []

    def defining_meanwhile() -> Counting:
        found = counting()
        if not defined:
            defined.append("calls")
            store.define("calls", "count")
        return found

    monkeypatch.setattr(store.meters, "counting", defining_meanwhile)

    store.record(arrival("1"))

    assert store.amounts("calls") == {(12, 12): (1, 0, "1")}
    assert store.differing() == {}
