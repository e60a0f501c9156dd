"""Pushed usage as it was known at a moment: what was answered then, whatever came since."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest

from contracts.metering import MeterRow
from services.metering import as_of
from services.metering.domain.counting import BILLION
from services.metering.domain.period import UsageAlreadyClosed
from services.metering.refusal import BadQuery
from services.metering.usage_events import Arrival
from tests import infra
from tests.integration.pushed_usage import NOW, RECORDED, Store, arrival, correction, opened, void

HOUR = timedelta(hours=1)
STEP = timedelta(minutes=17)
STEPS = 60
BUILT_IN = "usage_events"
# By name: how they are defined, and their own group.
METERS: dict[str, tuple[dict[str, Any], str | None]] = {
    "total": ({"aggregation": "sum", "value": "n", "group_by": ["of"]}, "of"),
    "calls": ({"aggregation": "count", "filter": {"of": ["x"]}}, None),
    "busy": ({"aggregation": "time", "value": "n", "group_by": ["of"]}, "of"),
    "peak": ({"aggregation": "max", "value": "n", "group_by": ["of"]}, "of"),
    "kinds": ({"aggregation": "unique", "value": "of"}, None),
}


@pytest.fixture
def store(database: Callable[..., infra.Database]) -> Iterator[Store]:
    with opened(database("metering").dsn("metering")) as found:
        yield found


@dataclass
class Answer:
    moment: datetime
    meter: str
    asked: dict[str, Any]
    rows: list[MeterRow]


@dataclass
class History:
    """What happens to a store by a seed, one thing after each step of time; and what was answered."""

    store: Store
    random: Random
    now: datetime = NOW
    said: list[Arrival] = field(default_factory=list)
    corrections: int = 0
    defined: list[str] = field(default_factory=list)
    retired: set[str] = field(default_factory=set)
    answers: list[Answer] = field(default_factory=list)

    def go_on(self) -> None:
        self.now += STEP
        happens = (
            [self.push] * 6
            + [self.correct] * 6
            + [self.close, self.define, self.define, self.retire, self.retire]
        )
        self.random.choice(happens)()
        for meter in self.random.sample([BUILT_IN, *self.defined], min(3, 1 + len(self.defined))):
            asked = self.question(meter)
            self.answers.append(Answer(self.now, meter, asked, self.store.ask(meter, **asked)))

    def push(self) -> None:
        first = len(self.said)
        new = [
            arrival(
                f"{first + number}",
                self.now - self.random.randrange(30 * 60) * timedelta(minutes=1),
                account_id=self.random.choice(["acme", "globex"]),
                user_id=self.random.choice(["", "ann", "bob"]),
                event_type=self.random.choice(["used", "used", "used", "other"]),
                **self.data(),
            )
            for number in range(self.random.randrange(1, 6))
        ]
        self.said += new
        self.record(new)

    def correct(self) -> None:
        """Some of any age, one after the other where it is the same."""
        chosen = self.random.choices(self.said, k=self.random.randrange(1, 4)) if self.said else []
        self.record([self.correction_of(each) for each in chosen])

    def correction_of(self, record: Arrival) -> Arrival:
        self.corrections += 1
        own = {"account_id": record.account_id, "event_type": record.event_type}
        name = f"correction {self.corrections}"
        if self.random.random() < 0.3:
            return void(name, record.event_id, **own)
        return correction(name, record.event_id, **own, **self.data())

    def record(self, arrivals: list[Arrival]) -> None:
        assert {*self.store.statuses(*arrivals, now=self.now)} <= {RECORDED}

    def data(self) -> dict[str, Any]:
        n = self.random.choice([0, BILLION, self.random.randrange(50_000 * BILLION)])
        return {"n": n, "of": self.random.choice(["", "x", "y"])}

    def close(self) -> None:
        until = self.now.replace(minute=0) - self.random.randrange(30) * HOUR
        try:
            self.store.close(self.random.choice(["acme", "globex"]), until, self.now)
        except UsageAlreadyClosed:
            return

    def define(self) -> None:
        if waiting := [name for name in METERS if name not in self.defined]:
            self.store.define(waiting[0], **METERS[waiting[0]][0], now=self.now)
            self.defined.append(waiting[0])

    def retire(self) -> None:
        """One that has counted a while, and not all of them."""
        if len(self.retired) + 2 < len(self.defined):
            name = self.random.choice(self.defined)
            self.store.meters.retire(name, actor="admin:1", now=self.now)
            self.retired.add(name)

    def question(self, meter: str) -> dict[str, Any]:
        own = "type" if meter == BUILT_IN else METERS[meter][1]
        keys = ["account", "user", *([own] if own else [])]
        asked: dict[str, Any] = {
            "window": self.random.choice([None, "hour", "day", "month"]),
            "time_zone": self.random.choice(["UTC", "Asia/Kolkata"]),
            "group_by": self.random.sample(keys, self.random.randrange(len(keys) + 1)),
            "limit": 1000,
        }
        if self.random.random() < 0.3:
            asked["account_id"] = "acme"
        if self.random.random() < 0.3:
            asked["filters"] = {"user": self.random.choice(["", "ann"])}
        if self.random.random() < 0.3:
            asked["from_at"] = self.now.replace(minute=0) - self.random.randrange(30) * HOUR
        return asked


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_is_what_was_answered_then(store: Store, seed: int) -> None:
    history = History(store, Random(seed))
    history.define()
    history.define()
    for _ in range(STEPS):
        history.go_on()

    for answer in history.answers:
        assert store.ask(answer.meter, **answer.asked, as_of=answer.moment) == answer.rows, answer
    for meter in (BUILT_IN, *history.defined):
        assert store.ask(meter, group_by=["account"], as_of=NOW) == []
    assert history.retired
    assert len(history.answers) > 2 * STEPS
    assert store.differing() == {}


def test_a_correction_since_is_taken_back(store: Store) -> None:
    store.define("total", "sum", "n")
    store.define("peak", "max", "n")
    store.define("kinds", "unique", "n")
    store.record(arrival("1", n=7 * BILLION), arrival("2", n=BILLION), now=NOW)
    store.record(correction("1a", "1", n=5 * BILLION), void("2a", "2"), now=NOW + HOUR)
    store.record(correction("1b", "1", n=9 * BILLION), now=NOW + 2 * HOUR)

    told = {
        number: [store.total(meter, as_of=NOW + number * HOUR) for meter in ("total", "peak", "kinds")]
        for number in (-1, 0, 1, 2)
    }

    assert told == {-1: ["0", None, "0"], 0: ["8", "7", "2"], 1: ["5", "5", "1"], 2: ["9", "9", "1"]}


def test_meters_of_later_count_nothing_then(store: Store) -> None:
    store.record(arrival("1", n=BILLION), now=NOW)
    store.define("total", "sum", "n", now=NOW + HOUR)
    store.record(arrival("2", n=2 * BILLION), correction("1a", "1", n=3 * BILLION), now=NOW + 2 * HOUR)
    store.meters.retire("total", actor="admin:1", now=NOW + 3 * HOUR)
    store.record(void("2a", "2"), now=NOW + 4 * HOUR)

    told = [store.total("total", as_of=NOW + number * HOUR) for number in range(5)]

    assert told == ["0", "0", "2", "2", "2"]
    assert [store.total(BUILT_IN, as_of=NOW + number * HOUR) for number in (2, 4)] == ["2", "1"]


def test_too_much_since_is_refused_with_how_far_it_reaches(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(as_of, "BATCHES_MAX", 3)
    for number in range(6):
        store.record(arrival(f"{number}"), now=NOW + number * HOUR)

    assert store.total(BUILT_IN, as_of=NOW + 2 * HOUR) == "3"
    with pytest.raises(BadQuery, match=r"it reaches back to 2031-05-17T14:30:00\.000000Z"):
        store.total(BUILT_IN, as_of=NOW + HOUR)


def test_counting_takes_no_longer_than_reading_may(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.record(arrival("1"), now=NOW)
    monkeypatch.setattr(as_of, "SECONDS_MAX", -1.0)

    with pytest.raises(BadQuery, match=r"it reaches back to 2031-05-17T12:30:00\.000000Z"):
        store.total(BUILT_IN, as_of=NOW - HOUR)
    assert store.total(BUILT_IN, as_of=NOW) == "1"


def test_what_is_replaced_in_a_closed_hour_changes_the_sum(store: Store) -> None:
    """It leaves an amount in the first open hour, and no record more or less."""
    store.define("total", "sum", "n")
    store.record(arrival("1", NOW - 5 * HOUR, n=7 * BILLION), now=NOW)
    store.close("acme", NOW.replace(minute=0))

    store.record(correction("1a", "1", n=9 * BILLION), now=NOW + STEP)

    assert store.total("total") == "9"
    assert [row.value for row in store.ask("total", window="hour", group_by=["account"])] == ["7", "2"]
    assert store.total("total", as_of=NOW) == "7"


def test_time_counts_in_hours_in_which_no_record_does(store: Store) -> None:
    store.define("busy", "time", "n")

    store.record(arrival("1", NOW, n=5400 * BILLION), now=NOW)

    assert store.total("busy") == "5400"
    assert [row.value for row in store.ask("busy", window="hour")] == ["3600", "1800"]
