"""The directory: accounts, keys and hooks as rows, so that they can be listed.

Each row is a function of its aggregate alone, written in the transaction of its events. It can be
dropped and written again from the log (`python -m services.accounts.replay`).
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from datetime import datetime
from typing import Any, Protocol

from psycopg import Cursor
from psycopg.rows import DictRow
from psycopg.sql import SQL, Composed, Identifier

from services.accounts.domain.accounts import Account
from services.accounts.domain.api_key import ApiKey
from services.accounts.domain.hook import Hook
from shared.audit import CREATE_AUDIT_TABLE
from shared.store import Effect, EventSourced, ThinRecorder

CREATE_DIRECTORY_TABLES = """
CREATE TABLE IF NOT EXISTS {schema}.accounts (
    account_id text COLLATE "C" PRIMARY KEY, suspended boolean NOT NULL,
    opened_at timestamptz NOT NULL, changed_at timestamptz NOT NULL);
ALTER TABLE {schema}.accounts ADD COLUMN IF NOT EXISTS payer text;
CREATE TABLE IF NOT EXISTS {schema}.api_keys (
    key_id text COLLATE "C" PRIMARY KEY, account_id text COLLATE "C" NOT NULL, user_id text,
    secret_hash text NOT NULL, revoked boolean NOT NULL,
    issued_at timestamptz NOT NULL, changed_at timestamptz NOT NULL);
ALTER TABLE {schema}.api_keys ADD COLUMN IF NOT EXISTS payer text;
CREATE INDEX IF NOT EXISTS api_keys_by_account ON {schema}.api_keys (account_id, key_id);
CREATE TABLE IF NOT EXISTS {schema}.hooks (
    hook_id text COLLATE "C" PRIMARY KEY, account_id text COLLATE "C" NOT NULL, version integer NOT NULL,
    previous_until_at timestamptz, removed boolean NOT NULL, added_at timestamptz NOT NULL);
CREATE INDEX IF NOT EXISTS hooks_by_account ON {schema}.hooks (account_id, added_at);
"""
CREATE_TABLES = CREATE_DIRECTORY_TABLES + CREATE_AUDIT_TABLE
PUT_ACCOUNT = """
INSERT INTO {schema}.accounts (account_id, suspended, opened_at, changed_at, payer)
VALUES (%s, %s, %s, %s, %s) ON CONFLICT (account_id) DO UPDATE SET
    suspended = excluded.suspended, changed_at = excluded.changed_at, payer = excluded.payer
"""
PUT_KEY = """
INSERT INTO {schema}.api_keys
    (key_id, account_id, user_id, secret_hash, revoked, issued_at, changed_at, payer)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (key_id) DO UPDATE SET
    revoked = excluded.revoked, changed_at = excluded.changed_at, payer = excluded.payer
"""
PUT_HOOK = """
INSERT INTO {schema}.hooks (hook_id, account_id, version, previous_until_at, removed, added_at)
VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (hook_id) DO UPDATE SET version = excluded.version,
    previous_until_at = excluded.previous_until_at, removed = excluded.removed
"""
IDENTITIES = """
SELECT key_id, account_id, user_id, secret_hash, revoked, suspended, api_keys.payer
FROM {schema}.api_keys JOIN {schema}.accounts USING (account_id)
"""


@dataclass(frozen=True, slots=True)
class AccountRow:
    account_id: str
    suspended: bool
    opened_at: datetime
    changed_at: datetime
    payer: str | None

    @classmethod
    def of(cls, account: Account) -> "AccountRow":
        return cls(
            account.account_id, account.suspended, account.created_on, account.modified_on, account.payer
        )


@dataclass(frozen=True, slots=True)
class KeyRow:
    key_id: str
    account_id: str
    user_id: str | None
    secret_hash: str
    revoked: bool
    issued_at: datetime
    changed_at: datetime
    payer: str | None

    @classmethod
    def of(cls, key: ApiKey) -> "KeyRow":
        return cls(
            key.key_id,
            key.account_id,
            key.user_id,
            key.secret_hash,
            key.revoked,
            key.created_on,
            key.modified_on,
            key.payer,
        )


@dataclass(frozen=True, slots=True)
class HookRow:
    hook_id: str
    account_id: str
    version: int
    previous_until_at: datetime | None
    removed: bool
    added_at: datetime

    @classmethod
    def of(cls, hook: Hook) -> "HookRow":
        return cls(
            hook.hook_id,
            hook.account_id,
            hook.version,
            hook.previous_until_at,
            hook.removed,
            hook.created_on,
        )


type Row = AccountRow | KeyRow | HookRow
PUTS = {AccountRow: PUT_ACCOUNT, KeyRow: PUT_KEY, HookRow: PUT_HOOK}


@dataclass(frozen=True, slots=True)
class IdentityRow:
    """A key as the edge has to know it, its account's state included."""

    key_id: str
    account_id: str
    user_id: str | None
    secret_hash: str
    revoked: bool
    suspended: bool
    payer: str | None


class Directory(Protocol):
    """Rows of accounts, keys and hooks. `record` makes the effect that writes them with their events."""

    def record(self, *rows: Row) -> Effect: ...

    def account(self, account_id: str) -> AccountRow | None: ...

    def accounts(self, *, after: str, limit: int) -> list[AccountRow]: ...

    def keys(self, account_id: str, *, after: str, limit: int) -> list[KeyRow]: ...

    def identity(self, key_id: str) -> IdentityRow | None: ...

    def identities(self, account_id: str | None = None) -> list[IdentityRow]:
        """Of one account, or all there are."""
        ...

    def hooks(self, account_id: str | None = None) -> list[HookRow]:
        """Of one account, or all there are; removed ones too."""
        ...


class PostgresDirectory:
    def __init__(self, application: EventSourced) -> None:
        recorder = application.recorder
        assert isinstance(recorder, ThinRecorder)
        self._datastore = recorder.datastore
        self._schema = Identifier(recorder.datastore.schema)

    def create_tables(self) -> None:
        with self._datastore.get_connection() as connection:
            connection.execute(self._sql(CREATE_TABLES))

    def record(self, *rows: Row) -> Effect:
        def effect(cursor: Cursor[DictRow]) -> None:
            for row in rows:
                cursor.execute(self._sql(PUTS[type(row)]), astuple(row))

        return effect

    def account(self, account_id: str) -> AccountRow | None:
        found = self._select("SELECT * FROM {schema}.accounts WHERE account_id = %s", account_id)
        return AccountRow(**found[0]) if found else None

    def accounts(self, *, after: str, limit: int) -> list[AccountRow]:
        query = "SELECT * FROM {schema}.accounts WHERE account_id > %s ORDER BY account_id LIMIT %s"
        return [AccountRow(**row) for row in self._select(query, after, limit)]

    def keys(self, account_id: str, *, after: str, limit: int) -> list[KeyRow]:
        query = (
            "SELECT * FROM {schema}.api_keys WHERE account_id = %s AND key_id > %s ORDER BY key_id LIMIT %s"
        )
        return [KeyRow(**row) for row in self._select(query, account_id, after, limit)]

    def identity(self, key_id: str) -> IdentityRow | None:
        found = self._select(IDENTITIES + "WHERE key_id = %s", key_id)
        return IdentityRow(**found[0]) if found else None

    def identities(self, account_id: str | None = None) -> list[IdentityRow]:
        if account_id is None:
            return [IdentityRow(**row) for row in self._select(IDENTITIES)]
        return [IdentityRow(**row) for row in self._select(IDENTITIES + "WHERE account_id = %s", account_id)]

    def hooks(self, account_id: str | None = None) -> list[HookRow]:
        query = (
            "SELECT * FROM {schema}.hooks WHERE %s::text IS NULL OR account_id = %s"
            " ORDER BY added_at, hook_id"
        )
        return [HookRow(**row) for row in self._select(query, account_id, account_id)]

    def _select(self, query: str, *params: Any) -> Sequence[DictRow]:
        with self._datastore.get_connection() as connection:
            return connection.execute(self._sql(query), params).fetchall()

    def _sql(self, text: str) -> Composed:
        return SQL(text).format(schema=self._schema)
