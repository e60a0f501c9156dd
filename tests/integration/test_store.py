"""The event store on real PostgreSQL: nothing is missed by who reads the log, nothing half stored."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from uuid import UUID

import pytest
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import IntegrityError
from psycopg import Cursor
from psycopg.rows import DictRow

from shared.positions import Position, PositionMovedError, Positions
from shared.store import EventSourced, postgres_env
from tests.infra import Database

NOW = datetime(2026, 3, 1, tzinfo=UTC)
WRITERS = 8
SAVES = 60


class Counter(Aggregate):
    TOPIC = "test.counter"

    class Event(Aggregate.Event):
        TOPIC = "test.counter.event"

    class Opened(Event, Aggregate.Created):
        TOPIC = "test.counter_opened"

    class Counted(Event):
        TOPIC = "test.counted"
        amount: int

    @event(Opened)
    def __init__(self, timestamp: datetime) -> None:  # noqa: ARG002
        self.total = 0

    @event(Counted)
    def count(self, amount: int, timestamp: datetime) -> None:  # noqa: ARG002
        self.total += amount


class Counting(EventSourced):
    name = "counting"


@pytest.fixture
def env(database: Callable[..., Database]) -> dict[str, str]:
    dsn = database("counting").dsn("counting")
    return dict(postgres_env(dsn, "counting", create_tables=True))


@pytest.fixture
def counting(env: dict[str, str]) -> Iterator[Counting]:
    with Counting(env) as application:
        Positions(application).create_tables()
        yield application


def test_a_reader_of_the_log_misses_nothing_of_eight_writers(counting: Counting) -> None:
    stop = threading.Event()
    seen: list[int] = []

    def write() -> None:
        for _ in range(SAVES):
            counter = Counter(timestamp=NOW)
            counter.count(1, timestamp=NOW)
            counting.save(counter)

    def read() -> None:
        position = 0
        done = False
        while not done:
            done = stop.is_set()
            found = counting.recorder.select_notifications(position, 1000, inclusive_of_start=False)
            seen.extend(notification.id for notification in found)
            position = seen[-1] if seen else 0

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write) for _ in range(WRITERS)]
    for thread in [reader, *writers]:
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    reader.join()

    everything = counting.recorder.select_notifications(0, 10_000)
    assert seen == [notification.id for notification in everything]
    assert len(seen) == WRITERS * SAVES * 2


def test_the_same_version_is_taken_once(counting: Counting, env: dict[str, str]) -> None:
    counter = Counter(timestamp=NOW)
    counting.save(counter)
    with Counting({**env, "CREATE_TABLE": "n"}) as replica:
        other: Counter = replica.repository.get(counter.id)
        other.count(1, timestamp=NOW)
        replica.save(other)
    counter.count(2, timestamp=NOW)

    with pytest.raises(IntegrityError):
        counting.save(counter)

    counting.forget(counter.id)
    stored: Counter = counting.repository.get(counter.id)
    assert stored.total == 1


def test_effects_and_events_are_stored_together_or_not_at_all(counting: Counting) -> None:
    positions = Positions(counting)
    start = positions.get("reader")
    counter = Counter(timestamp=NOW)
    counting.save(counter)
    counter.count(1, timestamp=NOW)

    counting.save(counter, effects=[positions.advance("reader", start, Position(1, 7))])
    counter.count(1, timestamp=NOW)
    with pytest.raises(PositionMovedError):
        counting.save(counter, effects=[positions.advance("reader", start, Position(1, 8))])

    counting.forget(counter.id)
    stored: Counter = counting.repository.get(counter.id)
    assert (stored.total, positions.get("reader")) == (1, Position(1, 7))


def test_an_effect_that_fails_stores_nothing(counting: Counting) -> None:
    counter = Counter(timestamp=NOW)

    def fail(cursor: Cursor[DictRow]) -> None:
        cursor.execute("SELECT 1")
        raise RuntimeError("broken on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        counting.save(counter, effects=[fail])

    assert counting.absent([counter.id]) == {counter.id}


def test_numbers_of_any_size_come_back_exact(counting: Counting) -> None:
    huge = 2**256 - 1
    counter = Counter(timestamp=NOW)
    counter.count(huge, timestamp=NOW)
    counting.save(counter)

    counting.forget(counter.id)
    stored: Counter = counting.repository.get(counter.id)

    assert (stored.total, stored.created_on) == (huge, NOW)


def test_what_is_absent_is_asked_in_one_query(counting: Counting) -> None:
    counter = Counter(timestamp=NOW)
    counting.save(counter)
    counting.forget(counter.id)
    stranger = UUID(int=7)

    assert counting.absent([counter.id, stranger]) == {stranger}
