"""Usage as it was known at a moment: what is known now, without what was recorded since.

The log is read back from its end to that moment, and folded as a rebuild folds it, with the hours
closed that were closed at each place, and the meters that there were; so the difference is exact, and
costs what happened since.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, LiteralString, cast
from uuid import UUID

from eventsourcing.persistence import Mapper, StoredEvent
from psycopg import Connection, Cursor
from psycopg.rows import DictRow
from psycopg.sql import SQL, Composable, Composed, Identifier

from services.metering import meter_tables
from services.metering.closings import TABLE as CLOSINGS
from services.metering.closings import ClosedHours
from services.metering.domain.meters import Counting, Meters
from services.metering.domain.period import UsagePeriod
from services.metering.domain.stream import TIMED, Stream, hour_changes
from services.metering.domain.usage import UsageBatch
from services.metering.domain.usage_events import UsageEventBatch, counted
from services.metering.meter_tables import MeterTables, added_up
from services.metering.projections import USAGE_KEY, USAGE_SUMS, UsageTables
from services.metering.refusal import BadQuery
from services.metering.stream_tables import HOURS_KEY, HOURS_SUMS, StreamTables
from shared.folding import DomainEvent

BATCHES_MAX = 500
SECONDS_MAX = 1.0  # of reading, and of counting pushed usage; the caller waits two
PAGE = 50
END = 2**62  # of the log: behind every event
USAGE_TOPICS = (UsageBatch.Recorded.TOPIC, UsagePeriod.Closed.TOPIC)
STREAM_TOPICS = (*(event.TOPIC for event in TIMED), UsagePeriod.Closed.TOPIC)
PUSHED_TOPICS = (UsageEventBatch.Recorded.TOPIC,)
COLUMNS = {
    "usage_hourly": (USAGE_KEY, USAGE_SUMS),
    "stream_hourly": (HOURS_KEY, HOURS_SUMS),
    "meter_hourly": (meter_tables.HOURS_KEY, meter_tables.HOURS_SUMS),
    "meter_values": (meter_tables.VALUES_KEY, meter_tables.VALUES_SUMS),
}
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
# Row by row, so that whoever asks may leave rows out by their sums.
WITHOUT: LiteralString = """
(SELECT {keys}, {differences} FROM {table} AS now LEFT JOIN {later} AS later USING ({keys})) AS known
"""


class AsOf:
    def __init__(self, schema: str, mapper: Mapper[UUID]) -> None:
        self._schema = schema
        self._mapper = mapper
        self._events = Identifier(schema, f"{schema}_events")

    def source(self, connection: Connection[DictRow], meter: str, table: str, at: datetime) -> Composable:
        """What stands for a meter's table in a query of this transaction, which reads at one moment.

        Raises BadQuery if too much was recorded since `at`; it says how far back one may ask.
        """
        named = Identifier(self._schema, table)
        make = SQL("CREATE TEMPORARY TABLE {} (LIKE {} INCLUDING INDEXES) ON COMMIT DROP")
        connection.execute(make.format(LATER, named))
        with connection.cursor() as cursor:
            match table:
                case "usage_hourly":
                    self._add_usage(cursor, at)
                case "stream_hourly":
                    self._add_streams(cursor, at)
                case _:
                    self._add_pushed(cursor, meter, table, at)
        return _without(named, *COLUMNS[table])

    def _add_usage(self, cursor: Cursor[DictRow], at: datetime) -> None:
        later = [*self._since(cursor.connection, USAGE_TOPICS, at)][::-1]
        closed = self._closed_before(cursor.connection, later)
        tables = UsageTables(LATER, LATER, LATER)
        for _, event in later:
            if isinstance(event, UsagePeriod.Closed):
                closed.close(event.account_id, event.until_at)
            elif isinstance(event, UsageBatch.Recorded):
                tables.add_usage(cursor, event.usage, event.timestamp, closed.first_open())

    def _add_streams(self, cursor: Cursor[DictRow], at: datetime) -> None:
        later = [*self._since(cursor.connection, STREAM_TOPICS, at)][::-1]
        closed = self._closed_before(cursor.connection, later)
        tables = StreamTables(LATER, LATER, LATER)
        for account_id, event in self._of_accounts(cursor.connection, later):
            if isinstance(event, UsagePeriod.Closed):
                closed.close(account_id, event.until_at)
            elif isinstance(event, TIMED):
                changes = [(account_id, change) for change in hour_changes(event)]
                tables.add_hours(cursor, changes, closed.first_open())

    def _add_pushed(self, cursor: Cursor[DictRow], meter: str, table: str, at: datetime) -> None:
        """Each batch tells what was closed and which meters counted; a correction, what it took back."""
        counting_by_version = self._countings(cursor.connection, meter)
        changes = (
            (event.account_id, counted(event, counting_by_version[event.meters]))
            for _, event in self._since(cursor.connection, PUSHED_TOPICS, at)
            if isinstance(event, UsageEventBatch.Recorded)
        )
        by_account = added_up(changes)
        tables = MeterTables(dict.fromkeys(meter_tables.TABLES, LATER))
        if table == "meter_hourly":
            tables.add_hours(cursor, by_account)
        else:
            tables.add_values(cursor, by_account)

    def _since(
        self, connection: Connection[DictRow], topics: Sequence[str], at: datetime
    ) -> Iterator[tuple[int, DomainEvent]]:
        """What was recorded after the last event that is not after `at`, the newest first."""
        give_up_at = time.monotonic() + SECONDS_MAX
        for number, (position, event) in enumerate(self._backwards(connection, topics)):
            recorded_at = _recorded_at(event)
            if recorded_at <= at:
                return
            if number == BATCHES_MAX or time.monotonic() > give_up_at:
                reach = f"{recorded_at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
                raise BadQuery(f"as_of: too much was recorded since; it reaches back to {reach}")
            yield position, event

    def _backwards(
        self, connection: Connection[DictRow], topics: Sequence[str]
    ) -> Iterator[tuple[int, DomainEvent]]:
        query, before = SQL(BACKWARDS).format(events=self._events), END
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

    def _countings(self, connection: Connection[DictRow], only: str) -> dict[int, Counting]:
        """Whether that meter counts, at each version of the meters."""
        meters: Meters | None = None
        countings = {0: Counting(None)}
        query = SQL(OF_AGGREGATES).format(events=self._events)
        for row in connection.execute(query, ([Meters.create_id()], END)).fetchall():
            meters = cast("Meters.Event", self._event(row)).mutate(meters)
            assert meters is not None
            countings[meters.version] = Counting(meters, only)
        return countings

    def _event(self, row: Mapping[str, Any]) -> DomainEvent:
        return self._mapper.to_domain_event(
            StoredEvent(row["originator_id"], row["originator_version"], row["topic"], bytes(row["state"]))
        )


def _without(table: Identifier, keys: Sequence[str], sums: Sequence[str]) -> Composed:
    difference = SQL("now.{0} - coalesce(later.{0}, 0) AS {0}")
    return SQL(WITHOUT).format(
        keys=SQL(", ").join(map(Identifier, keys)),
        differences=SQL(", ").join(difference.format(Identifier(each)) for each in sums),
        table=table,
        later=LATER,
    )


def _recorded_at(event: DomainEvent) -> datetime:
    at: datetime = cast("Any", event).timestamp
    return at
