"""Usage as it was known at a moment: what is known now, without what was recorded since.

The log is read back from its end to that moment, and folded as a rebuild folds it, with the hours
closed that were closed at each place; so the difference is exact, and costs what happened since.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, LiteralString, cast
from uuid import UUID

from eventsourcing.persistence import Mapper, StoredEvent
from psycopg import Connection, Cursor
from psycopg.rows import DictRow
from psycopg.sql import SQL, Composable, Composed, Identifier

from services.metering.closings import TABLE as CLOSINGS
from services.metering.closings import ClosedHours
from services.metering.domain.period import UsagePeriod
from services.metering.domain.stream import TIMED, Stream, hour_changes
from services.metering.domain.usage import UsageBatch
from services.metering.projections import USAGE_KEY, USAGE_SUMS, UsageTables
from services.metering.refusal import BadQuery
from services.metering.stream_tables import HOURS_KEY, HOURS_SUMS, StreamTables
from shared.folding import DomainEvent

BATCHES_MAX = 500
SECONDS_MAX = 1.0  # of reading; the caller waits two
PAGE = 50
USAGE_TOPICS = (UsageBatch.Recorded.TOPIC, UsagePeriod.Closed.TOPIC)
STREAM_TOPICS = (*(event.TOPIC for event in TIMED), UsagePeriod.Closed.TOPIC)
LATER = Identifier("recorded_later")

BACKWARDS: LiteralString = """
SELECT notification_id, originator_id, originator_version, topic, state FROM {events}
WHERE topic = ANY(%s) AND notification_id < %s ORDER BY notification_id DESC LIMIT %s
"""
OF_AGGREGATES: LiteralString = """
SELECT originator_id, originator_version, topic, state FROM {events}
WHERE originator_id = ANY(%s) AND notification_id < %s ORDER BY originator_id, originator_version
"""
OPENED: LiteralString = """
SELECT originator_id, originator_version, topic, state FROM {events}
WHERE originator_id = ANY(%s) AND originator_version = 1
"""
WITHOUT: LiteralString = """
(SELECT {columns} FROM {table} UNION ALL SELECT {keys}, {negated} FROM {later}) AS known
"""


class AsOf:
    TABLES: ClassVar = ("usage_hourly", "stream_hourly")

    def __init__(self, schema: str, mapper: Mapper[UUID]) -> None:
        self._schema = schema
        self._mapper = mapper
        self._events = Identifier(schema, f"{schema}_events")

    def source(self, connection: Connection[DictRow], table: str, at: datetime) -> Composable:
        """What stands for a table in a query of this transaction, which reads at one moment.

        Raises BadQuery if too much was recorded since `at`; it says how far back one may ask.
        """
        topics = USAGE_TOPICS if table == "usage_hourly" else STREAM_TOPICS
        later = self._since(connection, topics, at)
        named = Identifier(self._schema, table)
        make = SQL("CREATE TEMPORARY TABLE {} (LIKE {} INCLUDING INDEXES) ON COMMIT DROP")
        connection.execute(make.format(LATER, named))
        with connection.cursor() as cursor:
            closed = self._closed_before(connection, later)
            if table == "usage_hourly":
                _add_usage(cursor, (event for _, event in later), closed)
                return _without(named, USAGE_KEY, USAGE_SUMS)
            _add_streams(cursor, self._of_accounts(connection, later), closed)
            return _without(named, HOURS_KEY, HOURS_SUMS)

    def _since(
        self, connection: Connection[DictRow], topics: Sequence[str], at: datetime
    ) -> list[tuple[int, DomainEvent]]:
        """What was recorded after the last event that is not after `at`, in order."""
        found: list[tuple[int, DomainEvent]] = []
        give_up_at = time.monotonic() + SECONDS_MAX
        for position, event in self._backwards(connection, topics):
            recorded_at = _recorded_at(event)
            if recorded_at <= at:
                break
            if len(found) == BATCHES_MAX or time.monotonic() > give_up_at:
                reach = f"{recorded_at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
                raise BadQuery(f"as_of: too much was recorded since; it reaches back to {reach}")
            found.append((position, event))
        return found[::-1]

    def _backwards(
        self, connection: Connection[DictRow], topics: Sequence[str]
    ) -> Iterator[tuple[int, DomainEvent]]:
        query, before = SQL(BACKWARDS).format(events=self._events), 2**62
        while True:
            rows = connection.execute(query, (list(topics), before, PAGE)).fetchall()
            for row in rows:
                yield row["notification_id"], self._event(row)
            if len(rows) < PAGE:
                return
            before = rows[-1]["notification_id"]

    def _closed_before(
        self, connection: Connection[DictRow], later: Sequence[tuple[int, DomainEvent]]
    ) -> ClosedHours:
        """What was closed at the first of these events: all that is, but for what they close."""
        closed = ClosedHours()
        table = Identifier(self._schema, CLOSINGS)
        since = {event.account_id for _, event in later if isinstance(event, UsagePeriod.Closed)}
        for row in connection.execute(SQL("SELECT account_id, until FROM {}").format(table)):
            if row["account_id"] not in since:
                closed.close(row["account_id"], row["until"])
        if since:
            ids = [UsagePeriod.create_id(account_id) for account_id in since]
            query = SQL(OF_AGGREGATES).format(events=self._events)
            for row in connection.execute(query, (ids, later[0][0])).fetchall():
                event = self._event(row)
                if isinstance(event, UsagePeriod.Closed):
                    closed.close(event.account_id, event.until_at)
        return closed

    def _of_accounts(
        self, connection: Connection[DictRow], later: Sequence[tuple[int, DomainEvent]]
    ) -> Iterator[tuple[str, DomainEvent]]:
        """Events of streams with the accounts those are of, which their first events tell."""
        ids = list({event.originator_id for _, event in later if isinstance(event, TIMED)})
        rows = connection.execute(SQL(OPENED).format(events=self._events), (ids,)).fetchall()
        opened = [cast("Stream.Opened", self._event(row)) for row in rows]
        accounts = {event.originator_id: event.account_id for event in opened}
        for _, event in later:
            if isinstance(event, UsagePeriod.Closed):
                yield event.account_id, event
            else:
                yield accounts[event.originator_id], event

    def _event(self, row: Mapping[str, Any]) -> DomainEvent:
        return self._mapper.to_domain_event(
            StoredEvent(row["originator_id"], row["originator_version"], row["topic"], bytes(row["state"]))
        )


def _add_usage(cursor: Cursor[DictRow], events: Iterator[DomainEvent], closed: ClosedHours) -> None:
    tables = UsageTables(LATER, LATER, LATER)
    for event in events:
        if isinstance(event, UsagePeriod.Closed):
            closed.close(event.account_id, event.until_at)
        elif isinstance(event, UsageBatch.Recorded):
            tables.add_usage(cursor, event.usage, event.timestamp, closed.first_open())


def _add_streams(
    cursor: Cursor[DictRow], events: Iterator[tuple[str, DomainEvent]], closed: ClosedHours
) -> None:
    tables = StreamTables(LATER, LATER, LATER)
    for account_id, event in events:
        if isinstance(event, UsagePeriod.Closed):
            closed.close(account_id, event.until_at)
        elif isinstance(event, TIMED):
            changes = [(account_id, change) for change in hour_changes(event)]
            tables.add_hours(cursor, changes, closed.first_open())


def _without(table: Identifier, keys: Sequence[str], sums: Sequence[str]) -> Composed:
    return SQL(WITHOUT).format(
        columns=_named([*keys, *sums]),
        table=table,
        keys=_named(keys),
        negated=SQL(", ").join(SQL("-{}").format(Identifier(each)) for each in sums),
        later=LATER,
    )


def _named(columns: Sequence[str]) -> Composed:
    return SQL(", ").join(map(Identifier, columns))


def _recorded_at(event: DomainEvent) -> datetime:
    at: datetime = cast("Any", event).timestamp
    return at
