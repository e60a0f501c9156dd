"""A store that hangs: whoever serves is refused in time, and goes on when it answers again."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from uuid import UUID

import pytest
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import PersistenceError
from eventsourcing.postgres import PostgresDatastore

from shared import connections
from shared.connections import CONNECTIONS_MAX, StoreAwayError
from shared.store import EventSourced, ThinRecorder, postgres_env
from tests import infra
from tests.faults.hangs.halting import halted_trees
from tests.infra import Database
from tilt.slot import Slot

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(infra.uses_containers(), reason="the server's processes are not ours to halt"),
]

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DEADLINE_SECONDS = 60


class Counter(Aggregate):
    TOPIC = "test.hung_counter"

    class Event(Aggregate.Event):
        TOPIC = "test.hung_counter.event"

    class Opened(Event, Aggregate.Created):
        TOPIC = "test.hung_counter_opened"

    class Counted(Event):
        TOPIC = "test.hung_counted"

    @event(Opened)
    def __init__(self, timestamp: datetime) -> None:  # noqa: ARG002
        self.total = 0

    @event(Counted)
    def count(self, timestamp: datetime) -> None:  # noqa: ARG002
        self.total += 1


class Counting(EventSourced):
    name = "hanging"


@pytest.fixture
def env(database: Callable[..., Database], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setattr(connections, "START_SECONDS", 0.0)
    return dict(postgres_env(database("hanging").dsn("hanging"), "hanging", create_tables=True))


@pytest.fixture
def server(slot: Slot) -> int:
    """The pid of the server's first process."""
    return int((slot.directory / "postgres" / "postmaster.pid").read_text().split()[0])


async def test_a_save_into_a_hung_store_is_refused_and_so_are_all_after_it(
    env: dict[str, str], server: int
) -> None:
    with Counting(env) as counting:
        counter = Counter(timestamp=NOW)
        counting.save(counter)

        with halted_trees([server]):
            for _ in range(5):
                with pytest.raises(StoreAwayError):
                    counting.save(Counter(timestamp=NOW))
                with pytest.raises(StoreAwayError):
                    counting.recorder.select_events(counter.id)

        await until_saved(counting, Counter(timestamp=NOW))


async def test_a_thread_is_not_held_by_a_hung_store_either(env: dict[str, str], server: int) -> None:
    with Counting(env) as counting:
        counting.save(Counter(timestamp=NOW))

        with halted_trees([server]), pytest.raises(StoreAwayError):
            await asyncio.to_thread(counting.save, Counter(timestamp=NOW))

        await until_saved(counting, Counter(timestamp=NOW))


async def test_a_save_that_was_given_up_is_stored_once_or_not_at_all(
    env: dict[str, str], server: int
) -> None:
    with Counting(env) as counting:
        counter = Counter(timestamp=NOW)
        counting.save(counter)
        counter.count(timestamp=NOW)

        with halted_trees([server]), pytest.raises(StoreAwayError):
            counting.save(counter)
        counting.forget(counter.id)
        total = await until_counted(counting, counter.id)

        versions = [stored.originator_version for stored in counting.recorder.select_events(counter.id)]
        assert total in {1, 2}
        assert versions == list(range(1, total + 2))


async def test_effects_and_events_of_a_hung_transaction_stay_together(
    env: dict[str, str], server: int
) -> None:
    with Counting(env) as counting:
        counting.save(Counter(timestamp=NOW))
        with datastore_of(counting).get_connection() as connection:
            connection.execute("CREATE TABLE hanging.noted (id uuid)")
        counter = Counter(timestamp=NOW)

        with halted_trees([server]), pytest.raises(StoreAwayError):
            counting.save(
                counter,
                effects=[
                    lambda cursor: cursor.execute("INSERT INTO hanging.noted VALUES (%s)", [counter.id])
                ],
            )
        await until_saved(counting, Counter(timestamp=NOW))

        with datastore_of(counting).get_connection() as connection:
            noted = connection.execute("SELECT id FROM hanging.noted").fetchall()
        assert bool(noted) == bool(list(counting.recorder.select_events(counter.id)))


async def test_a_server_that_broke_its_connections_gets_new_ones(env: dict[str, str]) -> None:
    with Counting(env) as counting:
        counting.save(Counter(timestamp=NOW))
        connected = datastore_of(counting)
        with connected.get_connection() as one, connected.get_connection() as other:
            assert one.info.backend_pid != other.info.backend_pid
            one.execute("SELECT pg_terminate_backend(%s)", [other.info.backend_pid])

        await until_saved(counting, Counter(timestamp=NOW))


async def test_there_are_never_more_connections_than_allowed(env: dict[str, str]) -> None:
    with Counting(env) as counting:
        together = threading.Barrier(CONNECTIONS_MAX)

        def backend() -> int:
            with datastore_of(counting).get_connection() as connection:
                together.wait(DEADLINE_SECONDS)
                return int(connection.info.backend_pid)

        with ThreadPoolExecutor(3 * CONNECTIONS_MAX) as threads:
            used = list(threads.map(lambda _: backend(), range(3 * CONNECTIONS_MAX)))

        assert len(set(used)) == CONNECTIONS_MAX


def test_a_tool_waits_for_a_hung_store(env: dict[str, str], server: int) -> None:
    with Counting(env) as counting:
        counting.save(Counter(timestamp=NOW))

        with ThreadPoolExecutor(1) as thread:
            with halted_trees([server]):
                saving = thread.submit(counting.save, Counter(timestamp=NOW))
                with pytest.raises(TimeoutError):
                    saving.result(2 * connections.THREAD_SECONDS)
            saving.result(DEADLINE_SECONDS)


def datastore_of(counting: Counting) -> PostgresDatastore:
    assert isinstance(counting.recorder, ThinRecorder)
    return counting.recorder.datastore


async def until_saved(counting: Counting, counter: Counter) -> None:
    """Save it as soon as the store answers."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            try:
                counting.save(counter)
            except PersistenceError:
                counter = Counter(timestamp=NOW)
                await asyncio.sleep(0.05)
            else:
                return


async def until_counted(counting: Counting, counter_id: UUID) -> int:
    """Count once more, from what is stored; returns the total then."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            try:
                counter: Counter = counting.repository.get(counter_id)
                counter.count(timestamp=NOW)
                counting.save(counter)
            except PersistenceError:  # away, or the save that was given up came first
                counting.forget(counter_id)
                await asyncio.sleep(0.05)
            else:
                return counter.total
