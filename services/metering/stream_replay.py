"""The tables of streams, told again by metering's log."""

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from itertools import batched
from typing import Any, cast
from uuid import UUID

from psycopg import Connection, Cursor
from psycopg.rows import DictRow
from psycopg.sql import Identifier

from services.metering.closings import ClosedHours
from services.metering.domain.period import UsagePeriod
from services.metering.domain.stream import TIMED, HourChange, Stream, hour_changes
from services.metering.stream_tables import HOURS_KEY, TABLES, DeliveryKey, StreamRow, StreamTables
from shared.audit import Together
from shared.folding import ByAggregate, DomainEvent, Events, Fold
from shared.meter import Meter
from shared.row_tables import AggregateFold
from shared.table_copies import Table

STREAM_TABLES = [
    Table("streams", ("account_id", "stream_id")),
    Table("stream_hourly", HOURS_KEY),
    Table("deliveries", ("account_id", "webhook_id", "event_id")),
]
TOPICS = [event.TOPIC for event in (Stream.Opened, *TIMED, Stream.GivenUp, Stream.Closed)]
HOURS_TOPICS = [*TOPICS, UsagePeriod.Closed.TOPIC]
PAGE = 500


def filling_streams(events: Events, names: Mapping[str, Identifier]) -> Together:
    tables = StreamTables(*(names[table] for table in TABLES))
    uncounted = copy(events)  # each event is read twice, and counted once
    uncounted.meter = Meter(events.schema, lambda _: None)

    def write(cursor: Cursor[DictRow], folds: Sequence[Fold]) -> None:
        streams = [cast("Stream", cast("AggregateFold", fold).aggregate) for fold in folds]
        tables.put_streams(cursor, [StreamRow.of(stream) for stream in streams])

    return Together(
        SumFilling(events, tables),
        ByAggregate(uncounted, lambda _: AggregateFold(), write, TOPICS),
    )


class SumFilling:
    """Hours and deliveries, which events carry, in the order of the log."""

    def __init__(self, events: Events, tables: StreamTables) -> None:
        self._events = events
        self._tables = tables
        self._position = 0
        self._closed = ClosedHours()
        self._account_by_stream: dict[UUID, str] = {}  # an account's text is kept once

    def go_on(self, connection: Connection[DictRow]) -> bool:
        before = self._position
        with connection.cursor() as cursor:
            for page in batched(self._read(connection), PAGE):
                self._add(cursor, page)
        return self._position > before

    def _read(self, connection: Connection[DictRow]) -> Iterator[tuple[str, DomainEvent]]:
        accounts: dict[str, str] = {}
        for position, event in self._events.in_order(connection, HOURS_TOPICS, self._position):
            self._position = position
            if isinstance(event, Stream.Opened):
                account_id = accounts.setdefault(event.account_id, event.account_id)
                self._account_by_stream[event.originator_id] = account_id
            if isinstance(event, UsagePeriod.Closed):
                yield event.account_id, event
            else:
                yield self._account_by_stream[event.originator_id], event

    def _add(self, cursor: Cursor[DictRow], page: Sequence[tuple[str, DomainEvent]]) -> None:
        """Hours are added with what was closed at their place in the log."""
        hours: list[tuple[str, HourChange]] = []
        keys: list[DeliveryKey] = []
        for account_id, event in page:
            if isinstance(event, TIMED):
                hours += [(account_id, change) for change in hour_changes(event)]
            if isinstance(event, Stream.Heard):
                keys += [_key(account_id, delivery) for delivery in event.deliveries]
            if isinstance(event, UsagePeriod.Closed):
                self._tables.add_hours(cursor, hours, self._closed.first_open())
                hours = []
                self._closed.close(account_id, event.until_at)
        self._tables.add_hours(cursor, hours, self._closed.first_open())
        self._tables.add_deliveries(cursor, keys)


def _key(account_id: str, delivery: Any) -> DeliveryKey:
    _, webhook_id, event_id, *_ = delivery
    return DeliveryKey(account_id, webhook_id, event_id)
