"""Metering's tables, told by its log: `python -m services.metering.replay [--verify]`."""

import sys
from collections.abc import Mapping

from eventsourcing.compressor import ZlibCompressor
from eventsourcing.persistence import Mapper
from psycopg import Connection, Cursor
from psycopg.rows import DictRow
from psycopg.sql import Identifier

from services.metering import refusals
from services.metering.closings import CREATE_CLOSINGS, ClosedHours, Closings
from services.metering.closings import TABLE as CLOSINGS
from services.metering.domain.meters import Meters
from services.metering.domain.period import UsagePeriod
from services.metering.domain.stream import Stream
from services.metering.domain.usage import UsageBatch
from services.metering.meter_replay import METER_TABLES, MeterFilling
from services.metering.meter_tables import CREATE_METER_TABLES
from services.metering.outbox import public_of
from services.metering.projections import CREATE_TABLES, TABLES, USAGE_KEY, UsageTables
from services.metering.signed_ticket_tables import CREATE_SIGNED_TICKETS, SIGNED_TICKETS, TicketKeys
from services.metering.signed_ticket_tables import TABLE as TICKETS
from services.metering.stream_replay import STREAM_TABLES, filling_streams
from services.metering.stream_tables import CREATE_STREAM_TABLES
from shared.audit import AUDIT_TABLE, CREATE_AUDIT_TABLE, Together, with_audit
from shared.folding import DomainEvent, Events
from shared.replay import Replay, main
from shared.store import JsonTranscoder
from shared.table_copies import Table

KEYS = {
    "usage_hourly": USAGE_KEY,
    "sessions": ("account_id", "session_id"),
    refusals.TABLE: refusals.KEY,
    CLOSINGS: ("account_id",),
}
TOPICS = [UsageBatch.Recorded.TOPIC, UsagePeriod.Closed.TOPIC]

AUDITED = [Stream.Assigned.TOPIC, UsagePeriod.Closed.TOPIC, Meters.Defined.TOPIC, Meters.Retired.TOPIC]


class UsageFilling:
    """Adds batch after batch, in the order of the log."""

    def __init__(self, events: Events, names: Mapping[str, Identifier]) -> None:
        self._events = events
        self._tables = UsageTables(*(names[table] for table in TABLES))
        self._tickets = TicketKeys(names[TICKETS])
        self._closings = Closings(names[CLOSINGS], lock=False)
        self._closed = ClosedHours()
        self._position = 0

    def go_on(self, connection: Connection[DictRow]) -> bool:
        before = self._position
        with connection.cursor() as cursor:
            for position, event in self._events.in_order(connection, TOPICS, before):
                self._apply(cursor, event)
                self._position = position
        return self._position > before

    def _apply(self, cursor: Cursor[DictRow], event: DomainEvent) -> None:
        if isinstance(event, UsagePeriod.Closed):
            self._closed.close(event.account_id, event.until_at)
            self._closings.close(cursor, event.account_id, event.until_at)
        else:
            assert isinstance(event, UsageBatch.Recorded)
            self._tables.add(cursor, event.span, event.usage, event.timestamp, self._closed.first_open())
            self._tickets.add(cursor, event.usage)


def filling(events: Events, names: Mapping[str, Identifier]) -> Together:
    return Together(UsageFilling(events, names), filling_streams(events, names), MeterFilling(events, names))


replay = Replay(
    "metering",
    tables=[
        *(Table(table, key) for table, key in KEYS.items()),
        *STREAM_TABLES,
        *METER_TABLES,
        SIGNED_TICKETS,
        AUDIT_TABLE,
    ],
    create=(
        CREATE_TABLES
        + refusals.CREATE_REFUSALS
        + CREATE_CLOSINGS
        + CREATE_STREAM_TABLES
        + CREATE_SIGNED_TICKETS
        + CREATE_METER_TABLES
        + CREATE_AUDIT_TABLE
    ),
    fill=with_audit(filling, AUDITED, lambda: public_of),
    mapper=Mapper(JsonTranscoder(), compressor=ZlibCompressor()),
)

if __name__ == "__main__":
    sys.exit(main(replay))
