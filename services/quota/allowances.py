"""Open allowances as a table: which sessions hold budget, and since when they are idle."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from services.quota.own_table import OwnTable
from shared.store import Effect, ThinRecorder

CREATE_TABLES = """
CREATE TABLE IF NOT EXISTS {schema}.allowances (
    account_id text NOT NULL, session_id text NOT NULL, key_id text NOT NULL, payer text NOT NULL,
    number integer NOT NULL, granted numeric NOT NULL, spent numeric NOT NULL,
    last_at timestamptz NOT NULL, withdrawn boolean NOT NULL DEFAULT false,
    tried_at timestamptz, user_id text, token_id text, ends_at timestamptz,
    PRIMARY KEY (account_id, session_id));
ALTER TABLE {schema}.allowances ADD COLUMN IF NOT EXISTS user_id text,
    ADD COLUMN IF NOT EXISTS token_id text, ADD COLUMN IF NOT EXISTS ends_at timestamptz;
CREATE INDEX IF NOT EXISTS allowances_ends_at ON {schema}.allowances (ends_at) WHERE ends_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS allowances_last_at ON {schema}.allowances (last_at);
CREATE TABLE IF NOT EXISTS {schema}.payers (payer text PRIMARY KEY);
"""


FOREIGN = ""  # the payer of sessions that no signer of ours has


@dataclass(frozen=True, slots=True)
class AllowanceRow:
    account_id: str
    session_id: str
    key_id: str
    payer: str
    number: int
    granted: int
    spent: int
    last_at: datetime
    user_id: str | None
    token_id: str | None
    ends_at: datetime | None

    @staticmethod
    def of(account_id: str, session_id: str, session: dict[str, Any], at: datetime) -> "AllowanceRow":
        """Those from before there were users' limits have no word of them."""
        ends = session.get("ends")
        return AllowanceRow(
            account_id=account_id,
            session_id=session_id,
            key_id=session["key_id"],
            payer=session["payer"],
            number=session["number"],
            granted=session["granted"],
            spent=session["spent"],
            last_at=at,
            user_id=session.get("user_id"),
            token_id=session.get("token_id"),
            ends_at=datetime.fromtimestamp(ends, UTC) if ends is not None else None,
        )


@dataclass(frozen=True, slots=True)
class Closable:
    """A session whose allowance should come back: withdrawn, or idle for long."""

    account_id: str
    session_id: str
    number: int
    withdrawn: bool


class Allowances(OwnTable):
    """Reads the table, and makes the effects that change it with the events."""

    def create_tables(self) -> None:
        self._create(CREATE_TABLES)

    def put(self, rows: Sequence[AllowanceRow]) -> Effect:
        columns = [[getattr(row, name) for row in rows] for name in AllowanceRow.__dataclass_fields__]
        return self._effect(UPSERT, columns)

    def drop(self, sessions: Sequence[tuple[str, str]]) -> Effect:
        """Remove the rows of these accounts' sessions."""
        columns = [list(column) for column in zip(*sessions, strict=True)]
        return self._effect(
            "DELETE FROM {schema}.allowances WHERE (account_id, session_id) IN"
            " (SELECT * FROM unnest(%s::text[], %s::text[]))",
            columns,
        )

    def withdraw(
        self,
        account_id: str,
        *,
        user_id: str | None = None,
        key_id: str | None = None,
        token_id: str | None = None,
    ) -> Effect:
        """Mark an account's allowances, or those of one user, key or token, to be taken back now."""
        params = (account_id, user_id, user_id, key_id, key_id, token_id, token_id)
        return self._effect(
            "UPDATE {schema}.allowances SET withdrawn = true, tried_at = NULL WHERE account_id = %s"
            " AND (%s::text IS NULL OR user_id = %s) AND (%s::text IS NULL OR key_id = %s)"
            " AND (%s::text IS NULL OR token_id = %s)",
            params,
        )

    def know_payer(self, payer: str) -> Effect:
        return self._effect("INSERT INTO {schema}.payers VALUES (%s) ON CONFLICT DO NOTHING", (payer,))

    def payers(self) -> list[str]:
        if not isinstance(self._recorder, ThinRecorder):
            return []
        with self._store.datastore.get_connection() as connection:
            query = self._sql("SELECT payer FROM {schema}.payers ORDER BY payer")
            return [row["payer"] for row in connection.execute(query)]

    def closable(
        self, now: datetime, idle_since: datetime, tried_before: datetime, limit: int
    ) -> list[Closable]:
        """What to close now, withdrawals first; what was tried a moment ago waits."""
        with self._store.datastore.get_connection() as connection:
            rows = connection.execute(
                self._sql(CLOSABLE), (now, tried_before, idle_since, now, limit, now)
            ).fetchall()
        return [
            Closable(row["account_id"], row["session_id"], row["number"], row["withdrawn"]) for row in rows
        ]

    def foreign_due(self, now: datetime, idle_since: datetime, limit: int) -> list[AllowanceRow]:
        """Sessions of other signers that are idle, or whose lease ends: what they hold counts as spent."""
        query = self._sql(
            "SELECT * FROM {schema}.allowances"
            " WHERE payer = '' AND (withdrawn OR last_at < %s OR ends_at <= %s)"
            " ORDER BY last_at LIMIT %s"
        )
        with self._store.datastore.get_connection() as connection:
            rows = connection.execute(query, (idle_since, now, limit)).fetchall()
        return [
            AllowanceRow(**{name: row[name] for name in AllowanceRow.__dataclass_fields__}) for row in rows
        ]


UPSERT = """
INSERT INTO {schema}.allowances
    (account_id, session_id, key_id, payer, number, granted, spent, last_at, user_id, token_id, ends_at)
SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::int[], %s::numeric[],
    %s::numeric[], %s::timestamptz[], %s::text[], %s::text[], %s::timestamptz[])
ON CONFLICT (account_id, session_id) DO UPDATE SET key_id = excluded.key_id,
    number = excluded.number, granted = excluded.granted, spent = excluded.spent,
    last_at = excluded.last_at, user_id = excluded.user_id, token_id = excluded.token_id,
    ends_at = excluded.ends_at
"""

CLOSABLE = """
UPDATE {schema}.allowances SET tried_at = %s
WHERE (account_id, session_id) IN (
    SELECT account_id, session_id FROM {schema}.allowances
    WHERE payer <> '' AND (tried_at IS NULL OR tried_at < %s) AND (withdrawn OR last_at < %s OR ends_at <= %s)
    ORDER BY withdrawn DESC, last_at LIMIT %s)
RETURNING account_id, session_id, number, withdrawn OR coalesce(ends_at <= %s, false) AS withdrawn
"""
