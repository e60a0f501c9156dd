"""Epochs of a log on real PostgreSQL: when one begins, what it changes, and who may write meanwhile."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import ClassVar

import psycopg
import pytest
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import Notification
from nats.aio.client import Client
from nats.js.api import StreamConfig

from contracts.message import Event, ReadLog
from contracts.streams import stream_of
from shared.bus import connect
from shared.connections import StoreAwayError
from shared.history import Incarnation, StoreUncheckedError
from shared.log import LogEpochChanged, PublicLog
from shared.relay import Relay
from shared.store import EpochChangedError, EventSourced, postgres_env
from tests.infra import Database, Nats

NOW = datetime(2026, 3, 1, tzinfo=UTC)
STORE_BACK_SECONDS = 30
RELAYED_SECONDS = 30


class Noted(Aggregate):
    TOPIC = "test.noted"

    class Event(Aggregate.Event):
        TOPIC = "test.noted.event"

    class Made(Event, Aggregate.Created):
        TOPIC = "test.note_made"

    class Changed(Event):
        TOPIC = "test.note_changed"

    @event(Made)
    def __init__(self, timestamp: datetime) -> None:  # noqa: ARG002
        self.changes = 0

    @event(Changed)
    def change(self, timestamp: datetime) -> None:  # noqa: ARG002
        self.changes += 1


class Noting(EventSourced):
    name = "noting"


class NoteMade(Event):
    subject: ClassVar[str] = "evt.noting.note_made.v1"


class NoteOutbox:
    """Any public event will do."""

    topics: Sequence[str] = ("test.note_made",)

    def to_public(self, notification: Notification) -> tuple[NoteMade, datetime]:  # noqa: ARG002
        return NoteMade(), NOW


@pytest.fixture
def store(database: Callable[..., Database]) -> Database:
    return database("noting")


@pytest.fixture
def noting(store: Database) -> Iterator[Noting]:
    with Noting(postgres_env(store.dsn("noting"), "noting", create_tables=True)) as application:
        yield application


@pytest.fixture
def log(noting: Noting) -> PublicLog:
    made = PublicLog(noting, NoteOutbox())
    made.create_tables()
    return made


def note(noting: Noting, times: int = 1) -> Noted:
    for _ in range(times):
        made = Noted(timestamp=NOW)
        noting.save(made)
    return made


def begin(log: PublicLog, noting: Noting, reason: str = "test") -> int:
    noting.recorder.insert_events([], effects=[log.history.begin_epoch(reason)])
    return log.history.marks()[0]


def move(store: Database, what: str) -> None:
    """Make the log say that it was checked on another server; told by the part that differs."""
    parts = {"system": 1, "timeline": 2, "table": 3, "start": 4}
    with psycopg.connect(store.dsn()) as connection:
        connection.execute(
            "UPDATE noting.log SET incarnation = regexp_replace(incarnation, '[^:]+', '7', 1, %s)",
            (parts[what],),
        )


def check(log: PublicLog) -> Incarnation:
    """As the relay does where nothing was lost."""
    incarnation = log.history.incarnation()
    log.history.sign(incarnation, None, None)
    return incarnation


@pytest.fixture
async def bus(nats: Nats) -> AsyncIterator[Client]:
    client = await connect("noting", nats.url())
    await client.jetstream().add_stream(StreamConfig(stream_of("noting"), subjects=["evt.noting.>"]))
    yield client
    await client.jetstream().delete_stream(stream_of("noting"))
    await client.close()


@asynccontextmanager
async def relaying(store: Database, log: PublicLog, bus: Client) -> AsyncIterator[None]:
    relay = asyncio.create_task(Relay("noting", store.dsn("noting"), log, bus).run())
    yield
    relay.cancel()
    with suppress(asyncio.CancelledError):
        await relay


async def until_relayed(bus: Client, entries: int) -> None:
    async with asyncio.timeout(RELAYED_SECONDS):
        while (await bus.jetstream().stream_info(stream_of("noting"))).state.messages < entries:
            await asyncio.sleep(0.05)


def lose_tail(store: Database, *, version: int) -> None:
    with psycopg.connect(store.dsn()) as other:
        other.execute("DELETE FROM noting.noting_events WHERE originator_version >= %s", (version,))


def end_sessions(store: Database) -> None:
    with psycopg.connect(store.dsn()) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def save_position(noting: Noting) -> None:
    """As a reader does; waits until the store is back."""
    deadline = time.monotonic() + STORE_BACK_SECONDS
    while True:
        try:
            noting.recorder.insert_events([], effects=[lambda _: None])
        except StoreAwayError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


def test_an_entry_is_of_the_epoch_that_its_position_says(noting: Noting, log: PublicLog) -> None:
    note(noting, 2)
    second = begin(log, noting)
    note(noting, 2)

    page = log.read(ReadLog(after=0))

    assert [entry.epoch for entry in page.entries] == [1, 1, second, second]
    assert (page.epoch, page.began_after) == (second, page.entries[1].position)


def test_an_epochs_number_is_the_time_it_began_at(noting: Noting, log: PublicLog) -> None:
    first, second = begin(log, noting), begin(log, noting)

    assert 1_735_689_600 + first == pytest.approx(datetime.now(UTC).timestamp(), abs=3600)
    assert second > first


def test_a_reader_past_the_end_of_its_epoch_is_told_so(noting: Noting, log: PublicLog) -> None:
    note(noting, 2)
    begin(log, noting)
    note(noting, 3)
    last = log.read(ReadLog(after=0)).entries[-1].position

    assert log.read(ReadLog(after=1, epoch=1)).entries
    with pytest.raises(LogEpochChanged):
        log.read(ReadLog(after=last, epoch=1))
    with pytest.raises(LogEpochChanged):
        log.read(ReadLog(after=0, epoch=12))


@pytest.mark.parametrize("what", ["system", "timeline", "table", "start"])
def test_nothing_is_stored_on_a_server_that_nobody_has_checked(
    noting: Noting, log: PublicLog, store: Database, what: str
) -> None:
    check(log)
    move(store, what)

    with pytest.raises(StoreUncheckedError):
        note(noting)

    assert log.history.incarnation().moved == (what != "start")
    check(log)
    note(noting)


def test_a_writer_that_meets_a_new_epoch_forgets_what_it_knew(noting: Noting, log: PublicLog) -> None:
    made = note(noting)
    with_epoch = begin(log, noting)

    noting.refresh_epoch()

    assert log.history.epoch() == with_epoch
    assert noting.repository.cache is not None
    assert made.id not in noting.repository.cache.cache


def test_a_writer_whose_last_entry_is_gone_begins_an_epoch(
    noting: Noting, log: PublicLog, store: Database
) -> None:
    note(noting)
    made = note(noting)
    with psycopg.connect(store.dsn()) as other:
        other.execute("DELETE FROM noting.noting_events WHERE originator_id = %s", (made.id,))
    with (
        psycopg.connect(store.dsn("noting"), autocommit=True, row_factory=psycopg.rows.dict_row) as fresh,
        pytest.raises(EpochChangedError),
    ):
        log.history.check(fresh)

    assert [epoch.reason for epoch in log.history.epochs()] == ["the first", "what was stored last is gone"]


def test_no_event_is_stored_whose_predecessor_a_restore_took(
    noting: Noting, log: PublicLog, store: Database
) -> None:
    made = note(noting)
    made.change(timestamp=NOW)
    noting.save(made)
    lose_tail(store, version=2)

    made.change(timestamp=NOW)
    with pytest.raises(EpochChangedError):
        noting.save(made)

    assert len(log.read(ReadLog(after=0)).entries) == 1
    again: Noted = noting.repository.get(made.id)
    assert again.version == 1
    again.change(timestamp=NOW)
    noting.save(again)


@pytest.mark.anyio
async def test_a_stream_that_is_ahead_of_the_log_begins_an_epoch(
    noting: Noting, log: PublicLog, store: Database, bus: Client
) -> None:
    """The server says nothing of a restore that went back without leaving its timeline."""
    note(noting)
    lost = note(noting)
    [_, last] = log.read(ReadLog(after=0)).entries
    async with relaying(store, log, bus):
        await until_relayed(bus, 2)
    with psycopg.connect(store.dsn()) as other:
        other.execute("DELETE FROM noting.noting_events WHERE originator_id = %s", (lost.id,))
    end_sessions(store)

    with Noting(postgres_env(store.dsn("noting"), "noting", create_tables=False)) as anew:
        log_now = PublicLog(anew, NoteOutbox())
        async with relaying(store, log_now, bus):
            async with asyncio.timeout(RELAYED_SECONDS):
                while len(log_now.history.epochs()) == 1:
                    await asyncio.sleep(0.05)
            note(anew)
            await until_relayed(bus, 3)

        [_, begun] = log_now.history.epochs()
        assert begun.reason == "the stream is ahead of the log"
        assert (begun.lost_epoch, begun.lost_position) == (last.epoch, last.position)
        assert [entry.epoch for entry in log_now.read(ReadLog(after=0)).entries] == [1, begun.epoch]


def test_who_hears_of_an_epoch_by_a_save_without_events_forgets_what_it_knew(
    noting: Noting, log: PublicLog, store: Database
) -> None:
    """A reader that only moves its position is such a one, and others decide from its cache."""
    made = note(noting)
    begin(log, noting)
    end_sessions(store)

    with pytest.raises(EpochChangedError):
        save_position(noting)

    assert noting.repository.cache is not None
    assert made.id not in noting.repository.cache.cache
    save_position(noting)


def test_entries_of_a_lost_history_are_missing_those_of_ours_are_not(noting: Noting, log: PublicLog) -> None:
    note(noting, 2)
    [first, second] = log.read(ReadLog(after=0)).entries
    begin(log, noting)
    note(noting)
    lost = second.model_copy(update={"position": second.position + 1, "previous_position": second.position})
    replaced = second.model_copy(update={"at": datetime(2026, 3, 2, tzinfo=UTC)})

    assert log.missing([first, second, lost, replaced]) == [lost, replaced]
