"""The tables of meters and pushed usage, told again by metering's log."""

from collections.abc import Mapping

from psycopg import Connection, Cursor
from psycopg.rows import DictRow
from psycopg.sql import Identifier

from services.metering.domain.counting import Counted
from services.metering.domain.meters import Counting, Meters
from services.metering.domain.usage_events import UsageEventBatch, counted
from services.metering.meter_tables import HOURS_KEY, VALUES_KEY, MeterTables
from shared.folding import DomainEvent, Events
from shared.table_copies import Table

METER_TABLES = [
    Table("meters", ("name",)),
    Table("meter_hourly", HOURS_KEY),
    Table("meter_values", VALUES_KEY),
    Table("event_keys", ("key",)),
    Table("event_corrections", ("key", "number")),
]
TOPICS = [
    Meters.Begun.TOPIC,
    Meters.Defined.TOPIC,
    Meters.Retired.TOPIC,
    UsageEventBatch.Recorded.TOPIC,
]
PAGE = 50  # batches

type Stored = tuple[UsageEventBatch.Recorded, Counted]


class MeterFilling:
    """Counts batch after batch in the order of the log, with the meters that there were then."""

    def __init__(self, events: Events, names: Mapping[str, Identifier]) -> None:
        self._events = events
        self._tables = MeterTables(names)
        self._meters: Meters | None = None
        self._counting = Counting(None)
        self._position = 0

    def go_on(self, connection: Connection[DictRow]) -> bool:
        before = self._position
        page: list[Stored] = []
        with connection.cursor() as cursor:
            for position, event in self._events.in_order(connection, TOPICS, before):
                if isinstance(event, UsageEventBatch.Recorded):
                    page.append((event, counted(event, self._counting)))
                else:
                    self._change_meters(cursor, event)
                if len(page) == PAGE:
                    self._tables.add(cursor, page)
                    page = []
                self._position = position
            self._tables.add(cursor, page)
        return self._position > before

    def _change_meters(self, cursor: Cursor[DictRow], event: DomainEvent) -> None:
        assert isinstance(event, Meters.Event)
        self._meters = event.mutate(self._meters)
        assert self._meters is not None
        self._counting = Counting(self._meters)
        if isinstance(event, Meters.Defined | Meters.Retired):
            self._tables.put_meters(cursor, self._meters, [event.name])
