"""Metering's tables, told by its log: `python -m services.metering.replay [--verify]`."""

import sys
from collections.abc import Mapping

from eventsourcing.compressor import ZlibCompressor
from eventsourcing.persistence import Mapper
from psycopg import Connection
from psycopg.rows import DictRow
from psycopg.sql import Identifier

from services.metering import refusals
from services.metering.domain.stream import Stream
from services.metering.domain.usage import Span, UsageBatch
from services.metering.outbox import public_of
from services.metering.projections import CREATE_TABLES, TABLES, UsageTables
from services.metering.stream_replay import STREAM_TABLES, filling_streams
from services.metering.stream_tables import CREATE_STREAM_TABLES
from shared.audit import AUDIT_TABLE, CREATE_AUDIT_TABLE, Together, with_audit
from shared.folding import Events
from shared.replay import Replay, main
from shared.store import JsonTranscoder
from shared.table_copies import Table

KEYS = {
    "usage_hourly": ("account_id", "hour", "user_id", "job_type", "app", "recipient", "fee_denominator"),
    "sessions": ("account_id", "session_id"),
    refusals.TABLE: refusals.KEY,
}


class UsageFilling:
    """Adds batch after batch, in the order of the log."""

    def __init__(self, events: Events, names: Mapping[str, Identifier]) -> None:
        self._events = events
        self._tables = UsageTables(*(names[table] for table in TABLES))
        self._position = 0

    def go_on(self, connection: Connection[DictRow]) -> bool:
        before = self._position
        with connection.cursor() as cursor:
            for position, recorded in self._events.in_order(connection, [UsageBatch.Recorded.TOPIC], before):
                assert isinstance(recorded, UsageBatch.Recorded)
                span = Span(recorded.publisher, recorded.epoch, recorded.first, recorded.last)
                self._tables.add(cursor, span, recorded.usage)
                self._position = position
        return self._position > before


def filling(events: Events, names: Mapping[str, Identifier]) -> Together:
    return Together(UsageFilling(events, names), filling_streams(events, names))


replay = Replay(
    "metering",
    tables=[*(Table(table, KEYS[table]) for table in TABLES), *STREAM_TABLES, AUDIT_TABLE],
    create=CREATE_TABLES + refusals.CREATE_REFUSALS + CREATE_STREAM_TABLES + CREATE_AUDIT_TABLE,
    fill=with_audit(filling, [Stream.Assigned.TOPIC], lambda: public_of),
    mapper=Mapper(JsonTranscoder(), compressor=ZlibCompressor()),
)

if __name__ == "__main__":
    sys.exit(main(replay))
