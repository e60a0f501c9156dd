"""The event store: the library's, with a thinner recorder and effects in the same transaction.

The recorder keeps the library's table and its version check, and sends arrays of base types in one
statement. Writers queue behind an advisory lock that is taken before any position is drawn and
held until the commit is visible: without one, a reader of the log misses events.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, DomainEventProtocol, MutableOrImmutableAggregate
from eventsourcing.persistence import (
    InterfaceError,
    OperationalError,
    Recording,
    StoredEvent,
    Transcoder,
)
from eventsourcing.postgres import PostgresApplicationRecorder
from eventsourcing.utils import EnvType, retry
from psycopg import Cursor
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow
from psycopg.sql import SQL, Identifier, Literal
from pydantic_core import from_json, to_json

# Runs in the transaction of a save, before its events. Raises to undo everything.
type Effect = Callable[[Cursor[DictRow]], None]


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
        if isinstance(value, str) and (name == "timestamp" or name.endswith(("_at", "_on"))):
            state[name] = datetime.fromisoformat(value)


class ThinRecorder(PostgresApplicationRecorder):
    """Appends events and runs effects in one transaction."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        schema, table = Identifier(self.datastore.schema), Identifier(self.events_table_name)
        self._insert = SQL(
            "INSERT INTO {}.{} (originator_id, originator_version, topic, state)"
            " SELECT event.* FROM (SELECT pg_advisory_xact_lock(hashtext({}))) AS lock,"
            " unnest(%b::uuid[], %b::bigint[], %b::text[], %b::bytea[]) AS event"
        ).format(schema, table, Literal(f"{self.datastore.schema}.{self.events_table_name}"))
        self._existing = SQL(
            "SELECT originator_id FROM {}.{} WHERE originator_id = ANY(%s::uuid[]) AND originator_version = 1"
        ).format(schema, table)

    @retry((InterfaceError, OperationalError), max_attempts=3, wait=0.1)
    def insert_events(
        self, stored_events: Sequence[StoredEvent], *, effects: Sequence[Effect] = (), **_: Any
    ) -> Sequence[int] | None:
        """Raise IntegrityError if another writer took a version first; then nothing is stored."""
        if not stored_events and not effects:
            return None
        with self.datastore.get_connection() as connection:
            if not effects:  # one statement is a transaction
                self._append(connection.cursor(), stored_events)
                return None
            with connection.transaction(), connection.cursor() as cursor:
                for effect in effects:
                    effect(cursor)
                if stored_events:
                    self._append(cursor, stored_events)
        return None

    def existing(self, originator_ids: Iterable[UUID]) -> set[UUID]:
        """Which of these have events."""
        with self.datastore.get_connection() as connection:
            rows = connection.execute(self._existing, (list(originator_ids),), prepare=True)
            return {row["originator_id"] for row in rows}

    def _append(self, cursor: Cursor[DictRow], stored_events: Sequence[StoredEvent]) -> None:
        columns = [
            [event.originator_id for event in stored_events],
            [event.originator_version for event in stored_events],
            [event.topic for event in stored_events],
            [event.state for event in stored_events],
        ]
        cursor.execute(self._insert, columns, prepare=True)


class EventSourced(Application[UUID]):
    """Base of the services' applications: how they are wired to PostgreSQL, or to memory in tests."""

    env: ClassVar[dict[str, str]] = {
        "AGGREGATE_CACHE_MAXSIZE": "20000",
        "AGGREGATE_CACHE_FASTFORWARD": "n",  # the store's version check notices a stale one
        "DEEPCOPY_FROM_AGGREGATE_CACHE": "n",
    }

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
        "POSTGRES_CONNECT_TIMEOUT": "1",
        "POSTGRES_POOL_SIZE": "2",
        "POSTGRES_MAX_OVERFLOW": "6",
    }
