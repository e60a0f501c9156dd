"""Which of an account's hours are closed: usage that comes late for them counts in the first open one.

Whoever books usage reads this in the transaction that stores it, so that the order of the log is the
order in which hours were closed: a rebuild books the same.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime

from psycopg import Cursor
from psycopg.rows import DictRow
from psycopg.sql import SQL, Identifier, Literal

from services.metering.domain.usage import EPOCH, HOUR_MICROSECONDS, MICROSECOND

TABLE = "closings"
CREATE_CLOSINGS = """
CREATE TABLE IF NOT EXISTS {schema}.closings (account_id text PRIMARY KEY, until timestamptz NOT NULL);
"""
LOCK = "metering.closings"


class ClosedHours:
    """The same in memory, for who reads the log in its order: what was closed at each place of it."""

    def __init__(self) -> None:
        self._first_open: dict[str, int] = {}

    def close(self, account_id: str, until: datetime) -> None:
        before = self._first_open.get(account_id, 0)
        self._first_open[account_id] = max(before, hour_of(until))

    def first_open(self) -> Mapping[str, int]:
        """As Closings has it, of all accounts."""
        return self._first_open


class Closings:
    """Reads and writes the table of this name; a rebuild has one of its own, and needs no lock."""

    def __init__(self, table: Identifier, *, lock: bool = True) -> None:
        self._read = SQL("SELECT account_id, until FROM {} WHERE account_id = ANY(%s)").format(table)
        self._put = SQL(
            "INSERT INTO {} AS t VALUES (%s, %s) ON CONFLICT (account_id)"
            " DO UPDATE SET until = greatest(t.until, excluded.until)"
        ).format(table)
        self._lock = lock

    def first_open(self, cursor: Cursor[DictRow], account_ids: Iterable[str]) -> dict[str, int]:
        """The first open hour (since 1970) of those accounts that have closed ones."""
        self._take(cursor, "pg_advisory_xact_lock_shared")
        rows = cursor.execute(self._read, (sorted(set(account_ids)),), prepare=True).fetchall()
        return {row["account_id"]: hour_of(row["until"]) for row in rows}

    def close(self, cursor: Cursor[DictRow], account_id: str, until: datetime) -> None:
        """Close what lies before `until`, a whole hour; waits for what is being booked."""
        self._take(cursor, "pg_advisory_xact_lock")
        cursor.execute(self._put, (account_id, until))

    def _take(self, cursor: Cursor[DictRow], function: str) -> None:
        if self._lock:
            cursor.execute(SQL("SELECT {}(hashtext({}))").format(Identifier(function), Literal(LOCK)))


def hour_of(at: datetime) -> int:
    """Hours since 1970."""
    return (at - EPOCH) // MICROSECOND // HOUR_MICROSECONDS
