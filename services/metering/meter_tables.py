"""The tables of meters and pushed usage: all are folds of metering's log.

`meter_values` has a row for each value of `max` and `unique`; `records` counts how many say it, so that
a correction can take one back. `event_keys` tells for ever which records came, and where they are.
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import LiteralString, NamedTuple
from uuid import UUID

from eventsourcing.postgres import PostgresDatastore
from psycopg import Cursor
from psycopg.rows import DictRow
from psycopg.sql import SQL, Composed, Identifier
from psycopg.types.json import Jsonb

from services.metering.closings import CREATE_CLOSINGS
from services.metering.domain.counting import Counted, HourSum
from services.metering.domain.meters import Meters
from services.metering.domain.usage import HOUR_MICROSECONDS, moment
from services.metering.domain.usage_events import UsageEventBatch, corrections_of, key_of

TABLES = ("meters", "meter_hourly", "meter_values", "event_keys", "event_corrections")
HOURS_KEY = ("account_id", "meter", "hour", "of_hour", "user_id", "groups")
HOURS_SUMS = ("records", "late", "amount")
VALUES_KEY = (*HOURS_KEY, "value")
VALUES_SUMS = ("records",)

# A user or group that is not told is the empty text, so that keys have no nulls in them.
CREATE_METER_TABLES = """
CREATE TABLE IF NOT EXISTS {schema}.meters (
    name text PRIMARY KEY, event_type text NOT NULL, aggregation text NOT NULL, value text,
    group_by text[] NOT NULL, filter jsonb, defined_at timestamptz NOT NULL,
    retired_at timestamptz);
CREATE TABLE IF NOT EXISTS {schema}.meter_hourly (
    account_id text, meter text, hour timestamptz, of_hour timestamptz, user_id text, groups text[],
    records bigint NOT NULL, late bigint NOT NULL, amount numeric NOT NULL,
    PRIMARY KEY (account_id, meter, hour, of_hour, user_id, groups));
CREATE INDEX IF NOT EXISTS meter_hourly_by_meter ON {schema}.meter_hourly (meter, hour);
CREATE TABLE IF NOT EXISTS {schema}.meter_values (
    account_id text, meter text, hour timestamptz, of_hour timestamptz, user_id text, groups text[],
    value text, records bigint NOT NULL,
    PRIMARY KEY (account_id, meter, hour, of_hour, user_id, groups, value));
CREATE INDEX IF NOT EXISTS meter_values_by_meter ON {schema}.meter_values (meter, hour);
CREATE TABLE IF NOT EXISTS {schema}.event_keys (
    key uuid PRIMARY KEY, batch uuid NOT NULL, index smallint NOT NULL);
CREATE TABLE IF NOT EXISTS {schema}.event_corrections (
    key uuid, number integer, batch uuid NOT NULL, index smallint NOT NULL, PRIMARY KEY (key, number));
"""
PUT_METER: LiteralString = """
INSERT INTO {table} VALUES (%s, %s, %s, %s, %s::text[], %s, %s, %s)
ON CONFLICT (name) DO UPDATE SET retired_at = excluded.retired_at
"""
# Arrays of arrays would have to be of one length, so groups travel as the texts of arrays.
ADD_HOURS: LiteralString = """
INSERT INTO {table} AS t (account_id, meter, hour, of_hour, user_id, groups, records, late, amount)
SELECT a, m, h, o, u, g::text[], r, l, n FROM unnest(%s::text[], %s::text[], %s::timestamptz[],
    %s::timestamptz[], %s::text[], %s::text[], %s::bigint[], %s::bigint[], %s::numeric[])
    AS added (a, m, h, o, u, g, r, l, n)
ON CONFLICT (account_id, meter, hour, of_hour, user_id, groups) DO UPDATE SET
    records = t.records + excluded.records, late = t.late + excluded.late,
    amount = t.amount + excluded.amount
"""
ADD_VALUES: LiteralString = """
INSERT INTO {table} AS t (account_id, meter, hour, of_hour, user_id, groups, value, records)
SELECT a, m, h, o, u, g::text[], v, r FROM unnest(%s::text[], %s::text[], %s::timestamptz[],
    %s::timestamptz[], %s::text[], %s::text[], %s::text[], %s::bigint[]) AS added (a, m, h, o, u, g, v, r)
ON CONFLICT (account_id, meter, hour, of_hour, user_id, groups, value) DO UPDATE SET
    records = t.records + excluded.records
"""
ADD_KEYS: LiteralString = """
INSERT INTO {table} (key, batch, index) SELECT * FROM unnest(%s::uuid[], %s::uuid[], %s::smallint[])
"""
ADD_CORRECTIONS: LiteralString = """
INSERT INTO {table} (key, number, batch, index)
SELECT * FROM unnest(%s::uuid[], %s::integer[], %s::uuid[], %s::smallint[])
"""
KNOWN: LiteralString = "SELECT key, batch, index FROM {table} WHERE key = ANY(%s::uuid[])"
CORRECTED: LiteralString = """
SELECT DISTINCT ON (key) key, batch, index FROM {table} WHERE key = ANY(%s::uuid[])
ORDER BY key, number DESC
"""


class Place(NamedTuple):
    """Where a record or correction is stored: corrections are counted on after the records."""

    batch: UUID
    row: int


class MeterTables:
    """Writes the tables of these names; a rebuild has names of its own."""

    def __init__(self, names: Mapping[str, Identifier]) -> None:
        self._put_meter = SQL(PUT_METER).format(table=names["meters"])
        self._add_hours = SQL(ADD_HOURS).format(table=names["meter_hourly"])
        self._add_values = SQL(ADD_VALUES).format(table=names["meter_values"])
        self._add_keys = SQL(ADD_KEYS).format(table=names["event_keys"])
        self._add_corrections = SQL(ADD_CORRECTIONS).format(table=names["event_corrections"])

    def put_meters(self, cursor: Cursor[DictRow], meters: Meters, names: Iterable[str]) -> None:
        """Write the rows of those that changed."""
        for name in names:
            meter, _, defined_at, retired_at = meters.known[name]
            told = (*meter[:4], list(meter.group_by), Jsonb(dict(meter.filter)), defined_at, retired_at)
            cursor.execute(self._put_meter, told)

    def add(
        self, cursor: Cursor[DictRow], stored: Sequence[tuple[UsageEventBatch.Recorded, Counted]]
    ) -> None:
        """Add what batches say. Raise psycopg's UniqueViolation if some of it was recorded before.

        Rows are in the order of their keys, as all writers have them: so none waits for another in a circle.
        """
        _insert(cursor, self._add_keys, sorted(row for batch, _ in stored for row in _key_rows(batch)))
        _insert(
            cursor,
            self._add_corrections,
            sorted(row for batch, _ in stored for row in _correction_rows(batch)),
        )
        by_account = added_up((batch.account_id, rows) for batch, rows in stored)
        self.add_hours(cursor, by_account)
        self.add_values(cursor, by_account)

    def add_hours(self, cursor: Cursor[DictRow], by_account: Mapping[str, Counted]) -> None:
        rows = (row for account in sorted(by_account.items()) for row in _hour_rows(*account))
        _insert(cursor, self._add_hours, list(rows))

    def add_values(self, cursor: Cursor[DictRow], by_account: Mapping[str, Counted]) -> None:
        rows = (row for account in sorted(by_account.items()) for row in _value_rows(*account))
        _insert(cursor, self._add_values, list(rows))


class EventPlaces:
    """Reads which records came, and where they are."""

    def __init__(self, datastore: PostgresDatastore) -> None:
        self._datastore = datastore
        schema = datastore.schema
        self._known = SQL(KNOWN).format(table=Identifier(schema, "event_keys"))
        self._corrected = SQL(CORRECTED).format(table=Identifier(schema, "event_corrections"))

    def known(self, keys: Iterable[UUID]) -> dict[UUID, Place]:
        return self._read(self._known, list(keys))

    def corrected(self, keys: Iterable[UUID]) -> dict[UUID, Place]:
        """The last corrections of those that have any."""
        return self._read(self._corrected, list(keys))

    def _read(self, query: Composed, keys: list[UUID]) -> dict[UUID, Place]:
        if not keys:
            return {}
        with self._datastore.get_connection() as connection:
            rows = connection.execute(query, (keys,), prepare=True).fetchall()
        return {row["key"]: Place(row["batch"], row["index"]) for row in rows}


def create_tables(datastore: PostgresDatastore) -> None:
    with datastore.get_connection() as connection:
        connection.execute(
            SQL(CREATE_METER_TABLES + CREATE_CLOSINGS).format(schema=Identifier(datastore.schema))
        )


def tables_of(schema: str) -> MeterTables:
    return MeterTables({table: Identifier(schema, table) for table in TABLES})


def added_up(counted: Iterable[tuple[str, Counted]]) -> dict[str, Counted]:
    """By account, because one statement must not change a row twice."""
    by_account: dict[str, Counted] = {}
    for account_id, rows in counted:
        by_account.setdefault(account_id, Counted(0)).merge(rows)
    return by_account


def _key_rows(batch: UsageEventBatch.Recorded) -> Iterable[tuple[UUID, UUID, int]]:
    usage, texts = batch.usage, batch.usage["texts"]
    told = [(texts[source], event_id) for source, event_id, *_ in usage["records"]]
    told += [(texts[source], event_id) for source, event_id, *_ in usage["corrections"]]
    for index, (source, event_id) in enumerate(told):
        yield key_of(batch.account_id, source, event_id), batch.originator_id, index


def _correction_rows(batch: UsageEventBatch.Recorded) -> Iterable[tuple[UUID, int, UUID, int]]:
    first = len(batch.usage["records"])
    for index, each in enumerate(corrections_of(batch), first):
        yield key_of(batch.account_id, each.source, each.corrects), each.number, batch.originator_id, index


def _hour_rows(account_id: str, rows: Counted) -> Iterable[tuple[object, ...]]:
    for key, total in sorted(rows.hours.items()):
        meter, hour, of_hour, user_id, groups = key
        place = (account_id, meter, _hour(hour), _hour(of_hour), user_id, _array(groups))
        yield *place, total.records, total.late, _decimal(total)


def _value_rows(account_id: str, rows: Counted) -> Iterable[tuple[object, ...]]:
    for key, records in sorted(rows.values.items()):
        meter, hour, of_hour, user_id, groups, value = key
        yield account_id, meter, _hour(hour), _hour(of_hour), user_id, _array(groups), value, records


def _hour(hour: int) -> object:
    return moment(hour * HOUR_MICROSECONDS)


def _decimal(total: HourSum) -> Decimal:
    """Exact, and always with the same places: rows are compared byte by byte."""
    return Decimal(f"{total.amount}e-{total.places}")


def _array(texts: Iterable[str]) -> str:
    """An array as PostgreSQL writes it."""
    quoted = (text.replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    return "{" + ",".join(f'"{text}"' for text in quoted) + "}"


def _insert(cursor: Cursor[DictRow], query: Composed, rows: Sequence[tuple[object, ...]]) -> None:
    if rows:
        columns = [list(column) for column in zip(*rows, strict=True)]
        cursor.execute(query, columns, prepare=True)
