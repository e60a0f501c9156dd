"""The event store: the library's, with a thinner recorder and effects in the same transaction.

The recorder keeps the library's table and its version check, and sends arrays of base types in one
statement. Writers queue behind an advisory lock that is taken before any position is drawn and
held until the commit is visible: without one, a reader of the log misses events.
"""

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Protocol
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.domain import (
    Aggregate,
    CanMutateProtocol,
    DomainEventProtocol,
    MutableOrImmutableAggregate,
)
from eventsourcing.persistence import (
    IntegrityError,
    InterfaceError,
    OperationalError,
    Recording,
    StoredEvent,
    Transcoder,
)
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
from eventsourcing.utils import EnvType, retry
from psycopg import Connection, Cursor
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow
from psycopg.sql import SQL, Identifier, Literal
from pydantic_core import from_json, to_json

from shared.connections import Connections

# Runs in the transaction of a save, before its events. Raises to undo everything.
type Effect = Callable[[Cursor[DictRow]], None]


class EpochChangedError(IntegrityError):
    """The log began a new epoch: what is in memory may never have happened. Load and decide again."""


class JsonTranscoder(Transcoder):
    """Events as JSON: whole numbers of any size stay exact, times are RFC 3339."""

    def encode(self, obj: Any) -> bytes:
        return to_json(obj)

    def decode(self, data: bytes) -> Any:
        state = from_json(data)
        _restore_times(state)
        if "state" in state:  # a snapshot
            _restore_times(state["state"])
        return state


def _restore_times(state: dict[str, Any]) -> None:
    """Names tell: `timestamp`, and what ends in `_at` or `_on`."""
    for name, value in state.items():
        if name != "timestamp" and not name.endswith(("_at", "_on")):
            continue
        if isinstance(value, str):
            state[name] = datetime.fromisoformat(value)
        elif isinstance(value, dict):  # several, by what they are of
            state[name] = {of: datetime.fromisoformat(at) for of, at in value.items()}


class Guard(Protocol):
    """Keeps writers out of a store that may have lost what was committed last (shared/history.py)."""

    def check(self, connection: Connection[DictRow]) -> None:
        """Raise unless this connection may write; asked before each save, cheap but for the first."""
        ...

    def note(self, stored: StoredEvent) -> None:
        """Be told what was committed last."""
        ...

    def epoch(self) -> int:
        """The epoch of the log that this process decides in."""
        ...

    def refresh(self) -> bool:
        """Look for a newer epoch; true if there is one."""
        ...


class ThinRecorder(PostgresApplicationRecorder):
    """Appends events and runs effects in one transaction."""

    guard: Guard | None = None  # whoever offers the log to others sets one
    on_epoch_changed: Callable[[], None] | None = None  # forgets what may never have happened

    def __init__(self, datastore: PostgresDatastore, **kwargs: Any) -> None:
        parameters = datastore.pool.kwargs
        assert isinstance(parameters, dict)
        # The library's pool waits, and the longer a store is away the longer after it came back.
        datastore.pool = Connections(parameters)  # type: ignore[assignment] # for all that is used of it
        super().__init__(datastore, **kwargs)
        schema, table = Identifier(self.datastore.schema), Identifier(self.events_table_name)
        self._insert = SQL(
            "INSERT INTO {0}.{1} (originator_id, originator_version, topic, state)"
            " SELECT event.* FROM (SELECT pg_advisory_xact_lock(hashtext({2}))) AS lock,"
            " unnest(%b::uuid[], %b::bigint[], %b::text[], %b::bytea[]) AS event"
            # As one look-up each: a join of these would be planned for a table that has grown since.
            " WHERE (SELECT coalesce(bool_and((SELECT true FROM {0}.{1}"
            " WHERE originator_id = base.id AND originator_version = base.version) IS NOT NULL), true)"
            " FROM unnest(%b::uuid[], %b::bigint[]) AS base (id, version))"
        ).format(schema, table, Literal(f"{self.datastore.schema}.{self.events_table_name}"))
        self._newer = SQL(
            "SELECT event.originator_id, event.originator_version, event.topic, event.state"
            " FROM unnest(%b::uuid[], %b::bigint[]) AS known (id, version) JOIN {}.{} AS event"
            " ON event.originator_id = known.id AND event.originator_version > known.version"
            " ORDER BY event.originator_id, event.originator_version"
        ).format(schema, table)
        self._of_topics = SQL(
            "SELECT originator_version, topic, state FROM {}.{} WHERE originator_id = %s"
            " AND originator_version > %s AND originator_version <= %s AND topic = ANY(%s)"
            " ORDER BY originator_version"
        ).format(schema, table)
        self._existing = SQL(
            "SELECT originator_id FROM {}.{} WHERE originator_id = ANY(%s::uuid[]) AND originator_version = 1"
        ).format(schema, table)

    @retry((InterfaceError, OperationalError), max_attempts=3, wait=0.1)
    def insert_events(
        self, stored_events: Sequence[StoredEvent], *, effects: Sequence[Effect] = (), **_: Any
    ) -> Sequence[int] | None:
        """Raise IntegrityError if another writer took a version first; then nothing is stored.

        After StoreAwayError nobody knows whether it was: load again before deciding anything.
        """
        if not stored_events and not effects:
            return None
        with self.datastore.get_connection() as connection:
            try:
                if self.guard is not None:
                    self.guard.check(connection)
                self._store(connection, stored_events, effects)
            except EpochChangedError:
                if self.on_epoch_changed is not None:
                    self.on_epoch_changed()
                raise
        if self.guard is not None and stored_events:
            self.guard.note(stored_events[-1])
        return None

    def _store(
        self, connection: Connection[DictRow], stored_events: Sequence[StoredEvent], effects: Sequence[Effect]
    ) -> None:
        if not effects:  # one statement is a transaction
            self._append(connection.cursor(), stored_events)
            return
        with connection.transaction(), connection.cursor() as cursor:
            for effect in effects:
                effect(cursor)
            if stored_events:
                self._append(cursor, stored_events)

    def existing(self, originator_ids: Iterable[UUID]) -> set[UUID]:
        """Which of these have events."""
        with self.datastore.get_connection() as connection:
            rows = connection.execute(self._existing, (list(originator_ids),), prepare=True)
            return {row["originator_id"] for row in rows}

    def of_topics(
        self, originator_id: UUID, topics: Sequence[str], *, gt: int, lte: int
    ) -> list[StoredEvent]:
        """The events of these topics of one aggregate, with versions in (gt, lte], in order."""
        with self.datastore.get_connection() as connection:
            params = (originator_id, gt, lte, list(topics))
            rows = connection.execute(self._of_topics, params, prepare=True).fetchall()
        return [
            StoredEvent(originator_id, row["originator_version"], row["topic"], bytes(row["state"]))
            for row in rows
        ]

    def newer(self, versions: Mapping[UUID, int]) -> list[StoredEvent]:
        """The events of these aggregates after their versions, in order."""
        with self.datastore.get_connection() as connection:
            columns = [list(versions), list(versions.values())]
            rows = connection.execute(self._newer, columns, prepare=True).fetchall()
        return [
            StoredEvent(row["originator_id"], row["originator_version"], row["topic"], bytes(row["state"]))
            for row in rows
        ]

    def _append(self, cursor: Cursor[DictRow], stored_events: Sequence[StoredEvent]) -> None:
        columns = [
            [event.originator_id for event in stored_events],
            [event.originator_version for event in stored_events],
            [event.topic for event in stored_events],
            [event.state for event in stored_events],
        ]
        bases = _bases(stored_events)
        cursor.execute(self._insert, [*columns, list(bases), list(bases.values())], prepare=True)
        if cursor.rowcount != len(stored_events):
            raise EpochChangedError("what these events follow is gone")


def _bases(stored_events: Sequence[StoredEvent]) -> dict[UUID, int]:
    """The versions that must be there before: no aggregate gets a hole where a restore took its tail."""
    first: dict[UUID, int] = {}
    for event in stored_events:
        assert isinstance(event.originator_id, UUID)
        known = first.get(event.originator_id, event.originator_version)
        first[event.originator_id] = min(known, event.originator_version)
    return {unique: version - 1 for unique, version in first.items() if version > 1}


class EventSourced(Application[UUID]):
    """Base of the services' applications: how they are wired to PostgreSQL, or to memory in tests."""

    env: ClassVar[dict[str, str]] = {
        "AGGREGATE_CACHE_MAXSIZE": "20000",
        "AGGREGATE_CACHE_FASTFORWARD": "n",  # the store's version check notices a stale one
        "DEEPCOPY_FROM_AGGREGATE_CACHE": "n",
    }

    def __init__(self, env: EnvType | None = None) -> None:
        super().__init__(env)
        if isinstance(self.recorder, ThinRecorder):
            self.recorder.on_epoch_changed = self.forget_all

    def construct_transcoder(self) -> Transcoder:
        return JsonTranscoder()

    def save(
        self,
        *objs: MutableOrImmutableAggregate[UUID] | DomainEventProtocol[UUID] | None,
        **kwargs: Any,
    ) -> list[Recording[UUID]]:
        """Store all pending events of these aggregates in one transaction, with its effects.

        Like the library's, without its run-time protocol checks: they cost more than the rest.
        """
        aggregates = [aggregate for aggregate in objs if isinstance(aggregate, Aggregate)]
        events = [event for aggregate in aggregates for event in aggregate.collect_events()]
        recordings = self.events.put(events, **kwargs)
        if self.repository.cache is not None:
            for aggregate in aggregates:
                self.repository.cache.put(aggregate.id, aggregate)
        if self.snapshots is not None:
            self._take_due_snapshots(aggregates, events)
        return recordings

    def _take_due_snapshots(
        self, aggregates: Sequence[Aggregate], events: Sequence[DomainEventProtocol[UUID]]
    ) -> None:
        """Snapshot what passed its interval, as it is in memory: the library would replay it first."""
        assert self.snapshots is not None
        by_id = {aggregate.id: aggregate for aggregate in aggregates}
        due = {
            event.originator_id
            for event in events
            if (interval := self.snapshotting_intervals.get(type(by_id[event.originator_id])))
            and event.originator_version % interval == 0
        }
        if due:
            self.snapshots.put([Aggregate.Snapshot.take(by_id[aggregate_id]) for aggregate_id in due])

    def absent(self, aggregate_ids: Iterable[UUID]) -> set[UUID]:
        """Which of these are neither in memory nor in the store; one query for all of them."""
        cache = self.repository.cache.cache if self.repository.cache is not None else {}
        unknown = {aggregate_id for aggregate_id in aggregate_ids if aggregate_id not in cache}
        if not unknown:
            return unknown
        if not isinstance(self.recorder, ThinRecorder):
            return {unique for unique in unknown if not self.recorder.select_events(unique, limit=1)}
        return unknown - self.recorder.existing(unknown)

    def catch_up(self, aggregate_ids: Iterable[UUID]) -> None:
        """Bring those in memory to where another replica has brought them; one query for all."""
        if self.repository.cache is None or not isinstance(self.recorder, ThinRecorder):
            return
        known: dict[UUID, MutableOrImmutableAggregate[UUID]] = {}
        for aggregate_id in aggregate_ids:
            with contextlib.suppress(KeyError):
                known[aggregate_id] = self.repository.cache.get(aggregate_id)
        if not known:
            return
        for stored in self.recorder.newer({each: known[each].version for each in known}):
            event = self.mapper.to_domain_event(stored)
            assert isinstance(event, CanMutateProtocol)
            event.mutate(known[event.originator_id])

    def log_epoch(self) -> int:
        """The epoch of the log we decide in; if it is over, a save raises EpochChangedError."""
        guard = self._guard()
        return guard.epoch() if guard is not None else 1

    def refresh_epoch(self) -> None:
        """Look for a newer epoch, and forget what may never have happened."""
        guard = self._guard()
        if guard is not None and guard.refresh():
            self.forget_all()

    def _guard(self) -> Guard | None:
        return self.recorder.guard if isinstance(self.recorder, ThinRecorder) else None

    def forget_all(self) -> None:
        """Drop the whole cache: the store may no longer have what is in it."""
        if self.repository.cache is not None:
            self.forget(*list(self.repository.cache.cache))

    def forget(self, *aggregate_ids: UUID) -> None:
        """Drop aggregates from the cache, so that the next use reads them from the store."""
        for aggregate_id in aggregate_ids:
            if self.repository.cache is not None:
                try:
                    self.repository.cache.get(aggregate_id, evict=True)
                except KeyError:
                    continue


class NamedLog(EventSourced):
    """A service's log without its use cases, for who only reads it."""

    def __init__(self, service: str, env: EnvType | None = None) -> None:
        self.name = service
        super().__init__(env)


def postgres_env(dsn: str, schema: str, *, create_tables: bool) -> EnvType:
    """What the library reads to use PostgreSQL, in the service's own schema."""
    parts = conninfo_to_dict(dsn)
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "APPLICATION_RECORDER_TOPIC": "shared.store:ThinRecorder",
        "CREATE_TABLE": "y" if create_tables else "n",
        "POSTGRES_DBNAME": str(parts["dbname"]),
        "POSTGRES_HOST": str(parts["host"]),
        "POSTGRES_PORT": str(parts.get("port", 5432)),
        "POSTGRES_USER": str(parts["user"]),
        "POSTGRES_PASSWORD": str(parts.get("password", "")),
        "POSTGRES_SCHEMA": schema,
    }
