"""Who changed what, and why: a table beside a service's log, a row for each public event with an `actor`.

A row is written in the transaction of its event, and its position is the event's own in the log. All
of it can be told again by the log.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import astuple, dataclass
from datetime import datetime
from itertools import batched
from typing import Any, LiteralString, cast

from eventsourcing.persistence import ApplicationRecorder
from psycopg import Connection, Cursor
from psycopg.rows import DictRow
from psycopg.sql import SQL, Composed, Identifier, Literal
from psycopg.types.json import Jsonb

from contracts.audit import AuditPage, AuditRow, ReadAudit
from contracts.message import Event
from shared.folding import DomainEvent, Events
from shared.meter import Meter
from shared.replay import Fill, Filling
from shared.store import Effect, ThinRecorder
from shared.table_copies import Table

CREATE_AUDIT_TABLE: LiteralString = """
CREATE TABLE IF NOT EXISTS {schema}.audit (
    position bigint PRIMARY KEY, at timestamptz NOT NULL, action text NOT NULL,
    account_id text COLLATE "C", actor text NOT NULL, reason text NOT NULL, details jsonb NOT NULL);
CREATE INDEX IF NOT EXISTS audit_by_account ON {schema}.audit (account_id, position);
"""
AUDIT_TABLE = Table("audit", ("position",))
INSERT_ROW: LiteralString = "INSERT INTO {table} VALUES (%s, %s, %s, %s, %s, %s, %s)"
# The lock of a save (shared/store.py): whoever has it draws the next positions, one after the other.
LOCK: LiteralString = "SELECT pg_advisory_xact_lock(hashtext({}))"
NEXT_POSITION: LiteralString = (
    "SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence({}, 'notification_id')), 0) + 1 AS next"
)
SELECT_PAGE: LiteralString = """
SELECT * FROM {table} WHERE position < %s AND (%s::text IS NULL OR account_id = %s)
ORDER BY position DESC LIMIT %s
"""
ROWS_PAGE = 500

# The public event of a stored one that is a change by somebody; None for all others.
type ToldAs = Callable[[DomainEvent], Event | None]


@dataclass(frozen=True, slots=True)
class Row:
    """In the order of the table's columns."""

    position: int
    at: datetime
    action: str
    account_id: str | None
    actor: str
    reason: str
    details: Jsonb

    @classmethod
    def of(cls, position: int, event: Event, at: datetime) -> "Row":
        told = event.model_dump(mode="json", exclude={"account_id", "actor", "reason"}, exclude_defaults=True)
        said: Any = event
        return cls(
            position=position,
            at=at,
            action=event.subject.split(".")[2],
            account_id=getattr(event, "account_id", None),
            actor=said.actor,
            reason=said.reason,
            details=Jsonb(told),
        )


def is_audited(event: Event) -> bool:
    return "actor" in type(event).model_fields


class Audit:
    """The table of one service, in its schema. In memory effects do not run, and nothing can be read."""

    def __init__(self, service: str, recorder: ApplicationRecorder) -> None:
        self._service = service
        self._recorder = recorder

    def create_tables(self) -> None:
        with self._store.datastore.get_connection() as connection:
            connection.execute(SQL(CREATE_AUDIT_TABLE).format(schema=Identifier(self._schema)))

    def record(self, events: Sequence[Event | None], at: datetime) -> Effect:
        """Make the effect of a save that writes the rows of its events.

        `events` has one for each stored event of the save, in their order: its public event, or None
        where nobody is to be told. All have happened at `at`. It has to be the save's last effect: it
        takes the log's lock, which others take after those of their rows.
        """
        told = [(index, event) for index, event in enumerate(events) if event and is_audited(event)]

        def effect(cursor: Cursor[DictRow]) -> None:
            if not told:
                return
            first = self._next_position(cursor)
            rows = [Row.of(first + index, event, at) for index, event in told]
            _insert(cursor, Identifier(self._schema, AUDIT_TABLE.name), rows)

        return effect

    def read(self, asked: ReadAudit) -> AuditPage:
        """Rows before a position, newest first."""
        query = SQL(SELECT_PAGE).format(table=Identifier(self._schema, AUDIT_TABLE.name))
        before = 2**62 if asked.before is None else asked.before
        params = (before, asked.account_id, asked.account_id, asked.limit)
        with self._store.datastore.get_connection() as connection:
            found = connection.execute(query, params).fetchall()
        return AuditPage(rows=[AuditRow(service=self._service, **row) for row in found])

    def _next_position(self, cursor: Cursor[DictRow]) -> int:
        """The position that this save's first event is going to have."""
        table = f"{self._schema}.{self._store.events_table_name}"
        cursor.execute(SQL(LOCK).format(Literal(table)))
        cursor.execute(SQL(NEXT_POSITION).format(Literal(table)))
        row = cursor.fetchone()
        assert row is not None
        return int(row["next"])

    @property
    def _store(self) -> ThinRecorder:
        assert isinstance(self._recorder, ThinRecorder)
        return self._recorder

    @property
    def _schema(self) -> str:
        return self._store.datastore.schema


class AuditFilling:
    """Tells the rows again, in the order of the log."""

    def __init__(self, events: Events, table: Identifier, topics: Sequence[str], told_as: ToldAs) -> None:
        self._events = events
        self._table = table
        self._topics = topics
        self._told_as = told_as
        self._position = 0

    def go_on(self, connection: Connection[DictRow]) -> bool:
        end = self._events.end(connection)
        if end == self._position:
            return False
        with connection.cursor() as cursor:
            for page in batched(self._rows(connection), ROWS_PAGE):
                _insert(cursor, self._table, page)
        self._position = max(self._position, end)
        return True

    def _rows(self, connection: Connection[DictRow]) -> Iterator[Row]:
        for position, stored in self._events.in_order(connection, self._topics, self._position):
            self._position = position
            event = self._told_as(stored)
            if event is not None and is_audited(event):
                yield Row.of(position, event, cast("Any", stored).timestamp)


class Together:
    """Several fillings of one service's tables."""

    def __init__(self, *fillings: Filling) -> None:
        self._fillings = fillings

    def go_on(self, connection: Connection[DictRow]) -> bool:
        went_on = [filling.go_on(connection) for filling in self._fillings]
        return any(went_on)


def with_audit(fill: Fill, topics: Sequence[str], telling: Callable[[], ToldAs]) -> Fill:
    """Fill the audit as well as what `fill` does.

    `telling` makes, for one replay, what is given the events of these topics in order: it may
    remember what it was given.
    """

    def both(events: Events, names: Mapping[str, Identifier]) -> Filling:
        uncounted = copy(events)  # `fill` counts each event of the log already
        uncounted.meter = Meter(events.schema, lambda _: None)
        audit = AuditFilling(uncounted, names[AUDIT_TABLE.name], topics, telling())
        return Together(fill(events, names), audit)

    return both


def _insert(cursor: Cursor[DictRow], table: Identifier, rows: Sequence[Row]) -> None:
    insert: Composed = SQL(INSERT_ROW).format(table=table)
    cursor.executemany(insert, [astuple(row) for row in rows])
