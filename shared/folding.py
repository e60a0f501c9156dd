"""Folds a log again, aggregate by aggregate, each from its first event.

Rows come by server-side cursors, so memory holds one aggregate at a time, whatever the log holds.
"""

import hashlib
import heapq
from collections.abc import Callable, Iterator, Sequence
from itertools import batched, groupby
from operator import attrgetter
from typing import Any, Protocol, cast
from uuid import UUID

from eventsourcing.domain import Aggregate, DomainEventProtocol
from eventsourcing.persistence import Mapper, StoredEvent
from psycopg import Connection, Cursor
from psycopg.rows import DictRow
from psycopg.sql import SQL, Composed, Identifier

from shared.meter import Meter

EVENTS_PAGE = 2_000
SNAPSHOTS_PAGE = 20  # a large budget's has megabytes
FOLDS_PAGE = 200
KEPT_MAX = 1_000  # folds that go on when their aggregates do

type DomainEvent = DomainEventProtocol[UUID]


class Fold(Protocol):
    """What one aggregate's events make of it."""

    def apply(self, event: DomainEvent) -> None: ...


class Events:
    """A service's stored events, as domain events."""

    def __init__(self, schema: str, mapper: Mapper[UUID], meter: Meter) -> None:
        self.schema = schema
        self._mapper = mapper
        self.meter = meter
        self._table = Identifier(schema, f"{schema}_events")
        self._snapshots = Identifier(schema, f"{schema}_snapshots")

    def count(self, connection: Connection[DictRow], after: int = 0) -> int:
        query = SQL("SELECT count(*) AS events FROM {} WHERE notification_id > %s").format(self._table)
        return int(_one(connection, query, after)["events"])

    def end(self, connection: Connection[DictRow]) -> int:
        query = SQL("SELECT coalesce(max(notification_id), %s) AS last FROM {}").format(self._table)
        return int(_one(connection, query, 0)["last"])

    def in_order(
        self, connection: Connection[DictRow], topics: Sequence[str], after: int
    ) -> Iterator[tuple[int, DomainEvent]]:
        """Events of these topics with their positions, as they are in the log."""
        query = SQL(
            "SELECT notification_id, originator_id, originator_version, topic, state FROM {}"
            " WHERE topic = ANY(%s) AND notification_id > %s ORDER BY notification_id"
        ).format(self._table)
        for row in _rows(connection, query, (list(topics), after), EVENTS_PAGE // 10):
            self.meter.count()
            yield row["notification_id"], self.domain_event(_stored(row))

    def by_aggregate(
        self, connection: Connection[DictRow], topics: Sequence[str] | None = None
    ) -> Iterator[StoredEvent]:
        query = SQL(
            "SELECT originator_id, originator_version, topic, state FROM {}"
            " WHERE %s::text[] IS NULL OR topic = ANY(%s) ORDER BY originator_id, originator_version"
        ).format(self._table)
        for row in _rows(connection, query, _both(topics), EVENTS_PAGE):
            self.meter.count()
            yield _stored(row)

    def changed(
        self, connection: Connection[DictRow], after: int, topics: Sequence[str] | None = None
    ) -> list[UUID]:
        query = SQL(
            "SELECT DISTINCT originator_id FROM {}"
            " WHERE notification_id > %s AND (%s::text[] IS NULL OR topic = ANY(%s))"
        ).format(self._table)
        return [row["originator_id"] for row in connection.execute(query, (after, *_both(topics)))]

    def of(
        self, connection: Connection[DictRow], aggregate_id: UUID, after_version: int
    ) -> Iterator[StoredEvent]:
        query = SQL(
            "SELECT originator_id, originator_version, topic, state FROM {}"
            " WHERE originator_id = %s AND originator_version > %s ORDER BY originator_version"
        ).format(self._table)
        for row in _rows(connection, query, (aggregate_id, after_version), EVENTS_PAGE):
            self.meter.count()
            yield _stored(row)

    def has_snapshots(self, connection: Connection[DictRow]) -> bool:
        """A service that takes none has no table for them."""
        name = self._snapshots.as_string(connection)
        if _one(connection, SQL("SELECT to_regclass(%s) AS found"), name)["found"] is None:
            return False
        query = SQL("SELECT EXISTS (SELECT FROM {}) AS found").format(self._snapshots)
        return bool(_one(connection, query)["found"])

    def snapshots(self, connection: Connection[DictRow]) -> Iterator[StoredEvent]:
        """In the order of `by_aggregate`."""
        if not self.has_snapshots(connection):
            return
        query = SQL(
            "SELECT originator_id, originator_version, topic, state FROM {}"
            " ORDER BY originator_id, originator_version"
        ).format(self._snapshots)
        for row in _rows(connection, query, (), SNAPSHOTS_PAGE):
            yield _stored(row)

    def drop_snapshots(self, connection: Connection[DictRow], found: Sequence[tuple[UUID, int]]) -> None:
        query = SQL("DELETE FROM {} WHERE originator_id = %s AND originator_version = %s").format(
            self._snapshots
        )
        with connection.cursor() as cursor:
            cursor.executemany(query, found)

    def domain_event(self, stored: StoredEvent) -> DomainEvent:
        return self._mapper.to_domain_event(stored)

    def encoded(self, state: dict[str, Any]) -> bytes:
        return self._mapper.transcoder.encode(state)


class ByAggregate:
    """Fills tables whose rows are each told by one aggregate.

    The first time all aggregates are folded, then those that went on since. `start` gives an empty
    fold by the aggregate's first event, or None if no row is told by it. Where `topics` are named,
    they are all of those aggregates', and other events are not looked at.
    """

    def __init__(
        self,
        events: Events,
        start: Callable[[DomainEvent], Fold | None],
        write: Callable[[Cursor[DictRow], Sequence[Fold]], None],
        topics: Sequence[str] | None = None,
    ) -> None:
        self._events = events
        self._start = start
        self._write = write
        self._topics = topics
        self._position = 0
        self._kept: dict[UUID, tuple[int, Fold]] = {}

    def go_on(self, connection: Connection[DictRow]) -> bool:
        """Bring the tables to the end of the log; tell whether there was anything to add."""
        before, end = self._position, self._events.end(connection)
        if end == before:
            return False
        folds = self._all(connection) if before == 0 else self._changed(connection, before)
        with connection.cursor() as cursor:
            for page in batched(folds, FOLDS_PAGE):
                self._write(cursor, page)
        self._position = end
        return True

    def _all(self, connection: Connection[DictRow]) -> Iterator[Fold]:
        stored_events = self._events.by_aggregate(connection, self._topics)
        for _, group in groupby(stored_events, key=attrgetter("originator_id")):
            _, fold = self._fold(group, None)
            if fold is not None:
                yield fold

    def _changed(self, connection: Connection[DictRow], after: int) -> Iterator[Fold]:
        for aggregate_id in self._events.changed(connection, after, self._topics):
            version, fold = self._kept.pop(aggregate_id, (0, None))
            last, fold = self._fold(self._events.of(connection, aggregate_id, version), fold)
            if fold is not None:
                self._kept[aggregate_id] = (last or version, fold)
                yield fold
        while len(self._kept) > KEPT_MAX:
            del self._kept[next(iter(self._kept))]

    def _fold(self, stored_events: Iterator[StoredEvent], fold: Fold | None) -> tuple[int, Fold | None]:
        version = 0
        for stored in stored_events:
            version = stored.originator_version
            if fold is None and version > 1:
                continue  # it tells no row
            event = self._events.domain_event(stored)
            if fold is None:
                fold = self._start(event)
            if fold is not None:
                fold.apply(event)
        return version, fold


class Snapshots:
    """The snapshots of a service, against what its events say."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self.state = hashlib.sha256()  # of all aggregates as they are now

    def differing(self, connection: Connection[DictRow]) -> Iterator[tuple[UUID, int]]:
        """Fold every aggregate; the ids and versions of snapshots that are not what was folded.

        A snapshot of an older class version says less, and is left out.
        """
        both = heapq.merge(
            (
                (stored.originator_id, stored.originator_version, 0, stored)
                for stored in self._stored(connection)
            ),
            (
                (stored.originator_id, stored.originator_version, 1, stored)
                for stored in self._events.snapshots(connection)
            ),
            key=lambda row: row[:3],
        )
        for aggregate_id, rows in groupby(both, key=lambda row: row[0]):
            aggregate: Aggregate | None = None
            for _, version, is_snapshot, stored in rows:
                event = cast("Any", self._events.domain_event(stored))
                if not is_snapshot:
                    aggregate = event.mutate(aggregate)
                elif _is_current(event) and not _same(event, aggregate):
                    yield cast("UUID", aggregate_id), version
            if aggregate is not None:
                self.state.update(aggregate.id.bytes + self._events.encoded(_state(aggregate)))

    def _stored(self, connection: Connection[DictRow]) -> Iterator[StoredEvent]:
        return self._events.by_aggregate(connection)


def _is_current(snapshot: Any) -> bool:
    cls = type(snapshot.mutate(None))
    return bool(snapshot.state.get("class_version", 1) == getattr(cls, "class_version", 1))


def _same(snapshot: Any, aggregate: Aggregate | None) -> bool:
    restored = snapshot.mutate(None)
    return type(restored) is type(aggregate) and _state(restored) == _state(aggregate)


def _state(aggregate: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(aggregate).items() if name != "_pending_events"}


def _rows(
    connection: Connection[DictRow], query: Composed, params: Sequence[object], page: int
) -> Iterator[DictRow]:
    """Stream a query's rows; several may be open at the same time."""
    with connection.cursor(f"rows_{id(query)}") as cursor:
        cursor.itersize = page
        yield from cursor.execute(query, params)


def _both(topics: Sequence[str] | None) -> tuple[list[str] | None, list[str] | None]:
    told = list(topics) if topics is not None else None
    return told, told


def _stored(row: DictRow) -> StoredEvent:
    return StoredEvent(row["originator_id"], row["originator_version"], row["topic"], bytes(row["state"]))


def _one(connection: Connection[DictRow], query: Composed | SQL, *params: object) -> DictRow:
    row: DictRow | None = connection.execute(query, params).fetchone()
    assert row is not None
    return row
