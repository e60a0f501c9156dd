"""The tables of streams: a row each, their time by hour, and which deliveries came.

All are folds of metering's log but `raw_deliveries`: bodies are kept for some days, and in no event.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import datetime, timedelta
from typing import LiteralString, NamedTuple

from eventsourcing.postgres import PostgresDatastore
from psycopg import Cursor
from psycopg.rows import DictRow
from psycopg.sql import SQL, Composed, Identifier, Placeholder
from psycopg.types.json import Jsonb

from services.metering.closings import TABLE as CLOSINGS
from services.metering.closings import Closings
from services.metering.domain.runs import HOUR_MS, Run
from services.metering.domain.stream import HourChange, Stream, moment_of
from shared.store import Effect

TABLES = ("streams", "stream_hourly", "deliveries")

# Hours are as in usage_hourly (projections.py), and so is how an older table is taken along.
# Whatever nobody told is the empty text, so that keys have no nulls in them.
CREATE_STREAM_TABLES = """
CREATE TABLE IF NOT EXISTS {schema}.streams (
    account_id text, stream_id text, user_id text NOT NULL, user_from text, app text NOT NULL,
    state text NOT NULL, first_at timestamptz NOT NULL, last_at timestamptz NOT NULL,
    alive_at timestamptz, elapsed_ms bigint NOT NULL, source_ms bigint, differs boolean NOT NULL,
    too_late integer NOT NULL, runs jsonb NOT NULL, opened_at timestamptz NOT NULL,
    PRIMARY KEY (account_id, stream_id));
CREATE INDEX IF NOT EXISTS streams_by_account ON {schema}.streams (account_id, opened_at, stream_id);
CREATE INDEX IF NOT EXISTS streams_unattributed ON {schema}.streams (account_id, opened_at)
    WHERE user_id = '';
CREATE INDEX IF NOT EXISTS streams_alive ON {schema}.streams (alive_at) WHERE alive_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS {schema}.stream_hourly (
    account_id text NOT NULL, user_id text NOT NULL, app text NOT NULL, hour timestamptz NOT NULL,
    ms bigint NOT NULL, late_ms bigint NOT NULL);
ALTER TABLE {schema}.stream_hourly ADD COLUMN IF NOT EXISTS of_hour timestamptz;
UPDATE {schema}.stream_hourly SET of_hour = hour WHERE of_hour IS NULL;
ALTER TABLE {schema}.stream_hourly ALTER COLUMN of_hour SET NOT NULL;
ALTER TABLE {schema}.stream_hourly DROP CONSTRAINT IF EXISTS stream_hourly_pkey;
CREATE UNIQUE INDEX IF NOT EXISTS stream_hourly_by_account
    ON {schema}.stream_hourly (account_id, hour, of_hour, user_id, app);
CREATE INDEX IF NOT EXISTS stream_hourly_by_hour ON {schema}.stream_hourly (hour);
CREATE TABLE IF NOT EXISTS {schema}.deliveries (
    account_id text, webhook_id text, event_id text, PRIMARY KEY (account_id, webhook_id, event_id));
"""
CREATE_RAW_TABLE = """
CREATE TABLE IF NOT EXISTS {schema}.raw_deliveries (
    account_id text, webhook_id text, event_id text, received_at timestamptz NOT NULL, body text NOT NULL,
    PRIMARY KEY (account_id, webhook_id, event_id));
CREATE INDEX IF NOT EXISTS raw_deliveries_by_time ON {schema}.raw_deliveries (received_at);
"""
HOURS_KEY = ("account_id", "hour", "of_hour", "user_id", "app")
HOURS_SUMS = ("ms", "late_ms")
ADD_HOURS: LiteralString = """
INSERT INTO {table} AS t (account_id, user_id, app, hour, of_hour, ms, late_ms)
SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[],
    %s::bigint[], %s::bigint[])
ON CONFLICT (account_id, hour, of_hour, user_id, app) DO UPDATE SET
    ms = t.ms + excluded.ms, late_ms = t.late_ms + excluded.late_ms
"""
ADD_DELIVERIES: LiteralString = "INSERT INTO {table} SELECT * FROM unnest(%s::text[], %s::text[], %s::text[])"
KNOWN_DELIVERIES: LiteralString = """
SELECT * FROM {table} JOIN unnest(%s::text[], %s::text[], %s::text[])
    AS asked (account_id, webhook_id, event_id) USING (account_id, webhook_id, event_id)
"""
ADD_RAW: LiteralString = """
INSERT INTO {table} SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::timestamptz[], %s::text[])
ON CONFLICT DO NOTHING
"""
SILENT: LiteralString = """
SELECT account_id, stream_id FROM {table} WHERE alive_at < %s ORDER BY alive_at LIMIT %s
"""


class DeliveryKey(NamedTuple):
    account_id: str
    webhook_id: str
    event_id: str


class RawDelivery(NamedTuple):
    account_id: str
    webhook_id: str
    event_id: str
    received_at: datetime
    body: str


@dataclass(frozen=True, slots=True)
class StreamRow:
    """A function of the stream alone, in the columns of the table."""

    account_id: str
    stream_id: str
    user_id: str
    user_from: str | None
    app: str
    state: str
    first_at: datetime
    last_at: datetime
    alive_at: datetime | None
    elapsed_ms: int
    source_ms: int | None
    differs: bool
    too_late: int
    runs: Jsonb
    opened_at: datetime

    @classmethod
    def of(cls, stream: Stream) -> "StreamRow":
        known = stream.known
        runs = [_told(run, "livepeer_studio") for run in known.studio_runs]
        runs += [_told(run, "streams", known.because(run)) for run in known.begun_runs]
        return cls(
            account_id=stream.account_id,
            stream_id=stream.stream_id,
            user_id=known.user_id,
            user_from=known.user_from,
            app=known.app,
            state=known.state,
            first_at=moment_of(known.first or 0),
            last_at=moment_of(known.last),
            alive_at=moment_of(known.alive) if known.alive is not None else None,
            elapsed_ms=sum(known.hours().values()),
            source_ms=known.source,
            differs=known.differs,
            too_late=known.too_late,
            runs=Jsonb(sorted(runs)),
            opened_at=stream.created_on,
        )


class StreamTables:
    """Writes the tables of these names; a rebuild has names of its own."""

    def __init__(self, streams: Identifier, stream_hourly: Identifier, deliveries: Identifier) -> None:
        self._put_stream = _put_row(streams)
        self._add_hours = SQL(ADD_HOURS).format(table=stream_hourly)
        self._add_deliveries = SQL(ADD_DELIVERIES).format(table=deliveries)

    def put_streams(self, cursor: Cursor[DictRow], rows: Iterable[StreamRow]) -> None:
        """In the order of their keys, as all writers of rows do: so none waits for another in a circle."""
        ordered = sorted(rows, key=lambda row: (row.account_id, row.stream_id))
        cursor.executemany(self._put_stream, [astuple(row) for row in ordered])

    def add_hours(
        self,
        cursor: Cursor[DictRow],
        changes: Iterable[tuple[str, HourChange]],
        first_open: Mapping[str, int],
    ) -> None:
        """Add what hours of accounts gained or lost; what closed ones did counts in the first open one."""
        sums: dict[tuple[str, str, str, int], tuple[int, int]] = {}
        for account_id, change in changes:
            key = (account_id, change.user_id, change.app, change.hour)
            ms, late_ms = sums.get(key, (0, 0))
            sums[key] = (ms + change.ms, late_ms + change.late_ms)
        rows = [
            (account_id, user_id, app, *_hours(hour, first_open.get(account_id, hour)), *added)
            for (account_id, user_id, app, hour), added in sorted(sums.items())
        ]
        if rows:
            cursor.execute(self._add_hours, _columns(rows))

    def add_deliveries(self, cursor: Cursor[DictRow], keys: Iterable[DeliveryKey]) -> None:
        """Raise psycopg's UniqueViolation if one of them came before."""
        if ordered := sorted(keys):
            cursor.execute(self._add_deliveries, _columns(ordered))


class StreamStore:
    """What streams are decided with beside the log, and what expires."""

    def __init__(self, datastore: PostgresDatastore) -> None:
        self._datastore = datastore
        schema = datastore.schema
        self.tables = StreamTables(*(Identifier(schema, table) for table in TABLES))
        self.closings = Closings(Identifier(schema, CLOSINGS))
        self._known = SQL(KNOWN_DELIVERIES).format(table=Identifier(schema, "deliveries"))
        self._silent = SQL(SILENT).format(table=Identifier(schema, "streams"))
        self._raw = Identifier(schema, "raw_deliveries")

    def create_tables(self) -> None:
        query = SQL(CREATE_STREAM_TABLES + CREATE_RAW_TABLE).format(schema=Identifier(self._datastore.schema))
        with self._datastore.get_connection() as connection:
            connection.execute(query)

    def known(self, keys: Sequence[DeliveryKey]) -> set[DeliveryKey]:
        """Which of these came before."""
        with self._datastore.get_connection() as connection:
            rows = connection.execute(self._known, _columns(keys)).fetchall() if keys else []
        return {DeliveryKey(**row) for row in rows}

    def silent(self, since: datetime, limit: int) -> list[tuple[str, str]]:
        """Account and id of streams that run and were not heard of since then, the longest first."""
        with self._datastore.get_connection() as connection:
            rows = connection.execute(self._silent, (since, limit)).fetchall()
        return [(row["account_id"], row["stream_id"]) for row in rows]

    def keep_raw(self, bodies: Sequence[RawDelivery]) -> Effect:
        query = SQL(ADD_RAW).format(table=self._raw)

        def effect(cursor: Cursor[DictRow]) -> None:
            if bodies:
                cursor.execute(query, _columns(sorted(bodies)))

        return effect

    def drop_raw(self, now: datetime, days: int) -> int:
        """Delete bodies older than that; returns how many."""
        query = SQL("DELETE FROM {} WHERE received_at < %s").format(self._raw)
        with self._datastore.get_connection() as connection:
            return connection.execute(query, (now - timedelta(days=days),)).rowcount


def _put_row(table: Identifier) -> Composed:
    names = [field.name for field in fields(StreamRow)]
    changing = [name for name in names if name not in {"account_id", "stream_id", "opened_at"}]
    return SQL("INSERT INTO {} ({}) VALUES ({}) ON CONFLICT (account_id, stream_id) DO UPDATE SET {}").format(
        table,
        SQL(", ").join(map(Identifier, names)),
        SQL(", ").join([Placeholder()] * len(names)),
        SQL(", ").join(SQL("{0} = excluded.{0}").format(Identifier(name)) for name in changing),
    )


def _hours(hour: int, first_open: int) -> tuple[datetime, datetime]:
    """Where it counts, and where it happened."""
    return moment_of(max(hour, first_open) * HOUR_MS), moment_of(hour * HOUR_MS)


def _told(run: Run, told_by: str, because: str = "") -> list[object]:
    """Why it is over only where its state does not say it."""
    return [run.began, run.ended, run.state, told_by, *([because] if because not in {"", run.state} else [])]


def _columns(rows: Iterable[tuple[object, ...]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]
