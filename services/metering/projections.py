"""The tables metering answers from: usage by hour, and sessions. Both are folds of its own log."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from psycopg import Connection, Cursor
from psycopg.rows import DictRow
from psycopg.sql import SQL, Identifier

from services.metering.closings import CREATE_CLOSINGS, Closings
from services.metering.closings import TABLE as CLOSINGS
from services.metering.domain.usage import (
    HOUR_MICROSECONDS,
    Hour,
    SessionChange,
    Span,
    Sums,
    Usage,
    accounts_of,
    late_hour,
    moment,
    rollup,
    session_changes,
)
from services.metering.refusals import CREATE_REFUSALS, RefusalTable
from services.metering.refusals import TABLE as REFUSALS
from shared.store import Effect

TABLES = ("usage_hourly", "sessions", REFUSALS)

# A user or stream that is not told is the empty text, so that keys have no nulls in them.
# `hour` is where it counts, `of_hour` where it happened: another one only if that one was closed.
# Who has the table of the first version keeps it: columns are added, and its key gives way to an index.
CREATE_TABLES = """
CREATE TABLE IF NOT EXISTS {schema}.usage_hourly (
    account_id text NOT NULL, user_id text NOT NULL, job_type text NOT NULL, app text NOT NULL,
    recipient text NOT NULL, hour timestamptz NOT NULL, fee_denominator bigint NOT NULL,
    payments bigint NOT NULL, tickets bigint NOT NULL, cost numeric NOT NULL,
    ev_numerator numeric NOT NULL, fee_numerator numeric NOT NULL);
ALTER TABLE {schema}.usage_hourly
    ADD COLUMN IF NOT EXISTS key_id text NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS capability text NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS of_hour timestamptz,
    ADD COLUMN IF NOT EXISTS units numeric NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS sessions bigint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS late bigint NOT NULL DEFAULT 0;
UPDATE {schema}.usage_hourly SET of_hour = hour WHERE of_hour IS NULL;
ALTER TABLE {schema}.usage_hourly ALTER COLUMN of_hour SET NOT NULL;
ALTER TABLE {schema}.usage_hourly DROP CONSTRAINT IF EXISTS usage_hourly_pkey;
CREATE UNIQUE INDEX IF NOT EXISTS usage_hourly_by_account ON {schema}.usage_hourly (account_id, hour,
    of_hour, user_id, key_id, job_type, app, capability, recipient, fee_denominator);
CREATE INDEX IF NOT EXISTS usage_hourly_by_hour ON {schema}.usage_hourly (hour);
CREATE TABLE IF NOT EXISTS {schema}.sessions (
    account_id text, session_id text, told_by smallint NOT NULL, user_id text NOT NULL,
    job_type text NOT NULL, app text NOT NULL, orchestrator text NOT NULL, stream_id text NOT NULL,
    opened_at timestamptz NOT NULL, last_at timestamptz NOT NULL, payments bigint NOT NULL,
    tickets bigint NOT NULL, cost numeric NOT NULL, closed boolean NOT NULL,
    PRIMARY KEY (account_id, session_id));
ALTER TABLE {schema}.sessions ADD COLUMN IF NOT EXISTS first_place numeric,
    ADD COLUMN IF NOT EXISTS first_cost numeric, ADD COLUMN IF NOT EXISTS paid_place numeric,
    ADD COLUMN IF NOT EXISTS closed_place numeric, ADD COLUMN IF NOT EXISTS paid_at timestamptz;
CREATE INDEX IF NOT EXISTS sessions_by_account ON {schema}.sessions (account_id, opened_at, session_id);
CREATE INDEX IF NOT EXISTS sessions_by_time ON {schema}.sessions (opened_at, session_id);
CREATE INDEX IF NOT EXISTS sessions_by_id ON {schema}.sessions (session_id);
CREATE INDEX IF NOT EXISTS sessions_by_stream ON {schema}.sessions (account_id, stream_id)
    WHERE stream_id <> '';
"""

USAGE_KEY = (
    *("account_id", "user_id", "key_id", "job_type", "app", "capability", "recipient"),
    *("hour", "of_hour", "fee_denominator"),
)
USAGE_SUMS = (
    *("payments", "tickets", "cost", "ev_numerator", "fee_numerator", "units"),
    *("sessions", "late"),
)
ADD_USAGE = f"""
INSERT INTO {{table}} AS t ({", ".join(USAGE_KEY + USAGE_SUMS)})
SELECT * FROM unnest(%b::text[], %b::text[], %b::text[], %b::text[], %b::text[], %b::text[], %b::text[],
    %b::timestamptz[], %b::timestamptz[], %b::bigint[], %b::bigint[], %b::bigint[], %b::numeric[],
    %b::numeric[], %b::numeric[], %b::numeric[], %b::bigint[], %b::bigint[])
ON CONFLICT ({", ".join(USAGE_KEY)}) DO UPDATE SET
    {", ".join(f"{each} = t.{each} + EXCLUDED.{each}" for each in USAGE_SUMS)}
"""  # noqa: S608 (our own column names)

_FACTS = ("user_id", "job_type", "app", "orchestrator", "stream_id")
_LEARN = ", ".join(
    f"{fact} = CASE WHEN EXCLUDED.told_by > t.told_by THEN EXCLUDED.{fact} ELSE t.{fact} END"
    for fact in _FACTS
)

CHANGE_SESSIONS = f"""
INSERT INTO {{table}} AS t (account_id, session_id, told_by, {", ".join(_FACTS)},
    opened_at, last_at, payments, tickets, cost, closed, first_place, first_cost, paid_place, closed_place,
    paid_at)
SELECT * FROM unnest(%b::text[], %b::text[], %b::smallint[], %b::text[], %b::text[], %b::text[],
    %b::text[], %b::text[], %b::timestamptz[], %b::timestamptz[], %b::bigint[], %b::bigint[],
    %b::numeric[], %b::boolean[], %b::numeric[], %b::numeric[], %b::numeric[], %b::numeric[],
    %b::timestamptz[])
ON CONFLICT (account_id, session_id) DO UPDATE SET {_LEARN},
    told_by = greatest(t.told_by, EXCLUDED.told_by),
    opened_at = least(t.opened_at, EXCLUDED.opened_at), last_at = greatest(t.last_at, EXCLUDED.last_at),
    payments = t.payments + EXCLUDED.payments, tickets = t.tickets + EXCLUDED.tickets,
    cost = t.cost + EXCLUDED.cost,
    first_cost = CASE WHEN t.first_place < EXCLUDED.first_place THEN t.first_cost
        ELSE coalesce(EXCLUDED.first_cost, t.first_cost) END,
    first_place = least(t.first_place, EXCLUDED.first_place),
    paid_place = greatest(t.paid_place, EXCLUDED.paid_place),
    closed_place = greatest(t.closed_place, EXCLUDED.closed_place),
    paid_at = greatest(t.paid_at, EXCLUDED.paid_at),
    closed = CASE WHEN EXCLUDED.payments = 0 AND EXCLUDED.closed_place IS NULL THEN t.closed ELSE
        coalesce(greatest(t.closed_place, EXCLUDED.closed_place) >
            coalesce(greatest(t.paid_place, EXCLUDED.paid_place), -1), false) END
"""  # noqa: S608 (our own column names)


class UsageTables:
    """Adds usage to the tables, one statement each; a rebuild names tables of its own.

    Rows are in the order of their keys, as all writers have them: so none waits for another in a circle.
    """

    def __init__(
        self,
        usage_hourly: Identifier,
        sessions: Identifier,
        refusals: Identifier,
        *,
        closings: Closings | None = None,
    ) -> None:
        self._add_usage = SQL(ADD_USAGE).format(table=usage_hourly)
        self._change_sessions = SQL(CHANGE_SESSIONS).format(table=sessions)
        self._refusals = RefusalTable(refusals)
        self._closings = closings

    def effects(self, span: Span, usage: Usage, now: datetime) -> Sequence[Effect]:
        closings = self._closings
        assert closings is not None

        def effect(cursor: Cursor[DictRow]) -> None:
            self.add(cursor, span, usage, now, closings.first_open(cursor, accounts_of(usage)))

        return [effect]

    def add(
        self,
        cursor: Cursor[DictRow],
        span: Span,
        usage: Usage,
        recorded_at: datetime,
        first_open: Mapping[str, int],
    ) -> None:
        """Add a batch that was recorded then; `first_open` hours are of accounts that have closed ones."""
        self.add_usage(cursor, usage, recorded_at, first_open)
        if changes := session_changes(usage):
            rows = (
                _session_row(*key, change, span.place) for key, change in sorted(changes.items(), key=_key)
            )
            cursor.execute(self._change_sessions, _columns(rows), prepare=True)
        self._refusals.add(cursor, usage)

    def add_usage(
        self, cursor: Cursor[DictRow], usage: Usage, recorded_at: datetime, first_open: Mapping[str, int]
    ) -> None:
        """Add it to the hours alone."""
        late_before = late_hour(recorded_at)
        rows = [
            _usage_row(by, total, first_open.get(by.account_id, by.hour), is_late=by.hour < late_before)
            for by, total in sorted(rollup(usage).items())
        ]
        if rows:
            cursor.execute(self._add_usage, _columns(rows), prepare=True)


def usage_tables(schema: str) -> UsageTables:
    tables = (Identifier(schema, table) for table in TABLES)
    return UsageTables(*tables, closings=Closings(Identifier(schema, CLOSINGS)))


def create_tables(connection: Connection[DictRow], schema: str) -> None:
    query = CREATE_TABLES + CREATE_REFUSALS + CREATE_CLOSINGS
    connection.execute(SQL(query).format(schema=Identifier(schema)))


def _usage_row(by: Hour, sums: Sums, first_open: int, *, is_late: bool) -> tuple[object, ...]:
    counts_in, happened_in = max(by.hour, first_open), by.hour
    late = sums.payments + sums.sessions if is_late else 0
    hours = (moment(hour * HOUR_MICROSECONDS) for hour in (counts_in, happened_in))
    return (*by[:7], *hours, by.fee_denominator, *sums, late)


def _session_row(account_id: str, session_id: str, change: SessionChange, place: int) -> tuple[object, ...]:
    first_position, first_cost = change.first_paid or (None, None)
    return (
        account_id,
        session_id,
        int(change.told_by),
        *change.facts,
        moment(change.first_at),
        moment(change.last_at),
        change.payments,
        change.tickets,
        change.cost,
        change.closed,
        place + first_position if first_position is not None else None,
        first_cost,
        place + change.paid_position if change.payments else None,
        place + change.closed_position if change.closed_position >= 0 else None,
        moment(change.paid_at) if change.paid_at is not None else None,
    )


def _key(change: tuple[tuple[str, str], SessionChange]) -> tuple[str, str]:
    return change[0]


def _columns(rows: Iterable[tuple[object, ...]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]
