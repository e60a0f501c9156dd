"""Whatever the order, the split and the repeats of pushed usage, its tables are the same."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.metering.domain.counting import BILLION
from services.metering.usage_events import Arrival
from tests import infra
from tests.integration.pushed_usage import NOW, Store, arrival, correction, opened, void

RUNS = count()
COMPARED = ("meter_hourly", "meter_values")


@pytest.fixture
def store(database: Callable[..., infra.Database]) -> Iterator[Store]:
    with opened(database("metering").dsn("metering")) as found:
        yield found


moments = st.integers(0, 40).map(lambda step: NOW - timedelta(minutes=17 * step))
values = st.integers(0, 10**13).map(lambda number: number * 7)
texts = st.sampled_from(["", "x", "y"])


@st.composite
def histories(draw: st.DrawFn) -> list[list[Arrival]]:
    """Records with their corrections, each in the order in which they are said."""
    found = []
    for number in range(draw(st.integers(1, 8))):
        account = draw(st.sampled_from(["acme", "globex"]))
        own: Any = {"account_id": account, "source": draw(st.sampled_from(["app", "web"]))}
        first = arrival(f"{number}", draw(moments), n=draw(values), of=draw(texts), **own)
        said = [first]
        for place in range(draw(st.integers(0, 3))):
            name = f"{number}.{place}"
            if draw(st.booleans()):
                said.append(void(name, f"{number}", **own))
            else:
                said.append(correction(name, f"{number}", n=draw(values), of=draw(texts), **own))
        found.append(said)
    return found


def _interleaved(data: st.DataObject, history: Sequence[Sequence[Arrival]]) -> list[Arrival]:
    order = data.draw(st.permutations([place for place, said in enumerate(history) for _ in said]))
    waiting = [iter(said) for said in history]
    return [next(waiting[place]) for place in order]


def _recorded(store: Store, data: st.DataObject, arrivals: Sequence[Arrival]) -> list[Any]:
    """Record these for accounts of their own, in pieces with repeats between; return their rows."""
    run = f"{next(RUNS)}"
    store.close(f"globex-{run}", NOW.replace(minute=0) - timedelta(hours=3))
    own = [replace(each, account_id=f"{each.account_id}-{run}") for each in arrivals]
    at = 0
    while at < len(own):
        size = data.draw(st.integers(1, len(own)))
        repeats = data.draw(st.lists(st.integers(0, min(at + size, len(own)) - 1), max_size=3))
        assert "refused" not in store.statuses(*own[at : at + size], *(own[place] for place in repeats))
        at += size
    rows = [store.rows(table, f"account_id LIKE '%-{run}'") for table in COMPARED]
    return [[(account.removesuffix(f"-{run}"), *rest) for account, *rest in table] for table in rows]


@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(history=histories(), data=st.data())
def test_any_order_split_and_repetition_give_the_same_tables(
    store: Store, history: list[list[Arrival]], data: st.DataObject
) -> None:
    store.define("total", "sum", "n", group_by=["of"])
    store.define("busy", "time", "n", filter={"of": ["x", "y"]})
    store.define("peak", "max", "n")
    store.define("kinds", "unique", "of", filter={"of": ["x"]})
    first = _recorded(store, data, _interleaved(data, history))

    again = _recorded(store, data, _interleaved(data, history))

    assert again == first
    assert _totals(first) == _totals_of(history)
    assert store.differing() == {}


def _totals(tables: list[Any]) -> dict[str, Decimal]:
    totals: dict[str, Decimal] = {}
    for account, meter, *_, amount in tables[0]:
        if meter == "total":
            totals[account] = totals.get(account, Decimal(0)) + amount
    return {account: total for account, total in totals.items() if total}


def _totals_of(history: Sequence[Sequence[Arrival]]) -> dict[str, Decimal]:
    """What the last word on each record says."""
    totals: dict[str, Decimal] = {}
    for said in history:
        last = said[-1]
        number = Decimal(int((last.data or {}).get("n", 0))) / BILLION
        totals[last.account_id] = totals.get(last.account_id, Decimal(0)) + number
    return {account: total for account, total in totals.items() if total}
