"""A directory of accounts without a database."""

from psycopg import Cursor
from psycopg.rows import DictRow

from services.accounts.directory import AccountRow, HookRow, IdentityRow, KeyRow, Row
from shared.store import Effect


class FakeDirectory:
    """Rows in dicts. Events in memory run no effects, so it records at once."""

    def __init__(self) -> None:
        self.account_rows: dict[str, AccountRow] = {}
        self.key_rows: dict[str, KeyRow] = {}
        self.hook_rows: dict[str, HookRow] = {}

    def record(self, *rows: Row) -> Effect:
        for row in rows:
            match row:
                case AccountRow():
                    self.account_rows[row.account_id] = row
                case KeyRow():
                    self.key_rows[row.key_id] = row
                case HookRow():
                    self.hook_rows[row.hook_id] = row
        return _nothing

    def account(self, account_id: str) -> AccountRow | None:
        return self.account_rows.get(account_id)

    def accounts(self, *, after: str, limit: int) -> list[AccountRow]:
        rows = sorted(self.account_rows.values(), key=lambda row: row.account_id)
        return [row for row in rows if row.account_id > after][:limit]

    def keys(self, account_id: str, *, after: str, limit: int) -> list[KeyRow]:
        rows = sorted(self.key_rows.values(), key=lambda row: row.key_id)
        return [row for row in rows if row.account_id == account_id and row.key_id > after][:limit]

    def identity(self, key_id: str) -> IdentityRow | None:
        row = self.key_rows.get(key_id)
        return self._identity(row) if row else None

    def identities(self, account_id: str | None = None) -> list[IdentityRow]:
        rows = self.key_rows.values()
        return [self._identity(row) for row in rows if account_id in (None, row.account_id)]

    def hooks(self, account_id: str | None = None) -> list[HookRow]:
        return [row for row in self.hook_rows.values() if account_id in (None, row.account_id)]

    def _identity(self, row: KeyRow) -> IdentityRow:
        suspended = self.account_rows[row.account_id].suspended
        return IdentityRow(
            row.key_id, row.account_id, row.user_id, row.secret_hash, row.revoked, suspended, row.payer
        )


def _nothing(_: Cursor[DictRow]) -> None:
    pass
