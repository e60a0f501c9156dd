"""The use cases of accounts: open, suspend and resume; choose the payer; keys; hooks."""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from eventsourcing.application import AggregateNotFoundError
from eventsourcing.persistence import IntegrityError, PersistenceError
from eventsourcing.utils import EnvType, retry

from services.accounts.directory import AccountRow, Directory, HookRow, IdentityRow, KeyRow, Row
from services.accounts.domain.accounts import UNSAID, Account, AccountNotFound, Author
from services.accounts.domain.api_key import ApiKey, KeyNotFound
from services.accounts.domain.hook import Hook, HookNotFound
from services.accounts.outbox import public_of
from shared.audit import Audit
from shared.store import EventSourced

PAGE_MAX = 500


def decided_again[**P, Outcome](use_case: Callable[P, Outcome]) -> Callable[P, Outcome]:
    """Decide again, from the store, when another process was faster."""
    retried: Callable[P, Outcome] = retry(IntegrityError, max_attempts=5, wait=0.01)(use_case)
    return retried


class Accounts(EventSourced):
    """Changes one at a time: aggregates in the cache are shared by the handlers' threads."""

    name = "accounts"

    def __init__(
        self,
        directory_of: Callable[[EventSourced], Directory],
        env: EnvType | None = None,
        *,
        default_payer: str | None = None,
    ) -> None:
        super().__init__(env)
        self._directory = directory_of(self)
        self.audit = Audit(self.name, self.recorder)
        self._default_payer = default_payer
        self._turn = threading.Lock()

    @decided_again
    def open_account(
        self, account_id: str, *, payer: str | None = None, at: datetime, by: Author = UNSAID
    ) -> AccountRow:
        with self._turn:
            account = self._find_account(account_id)
            if account is None:
                account = Account.open(account_id, payer=payer or self._default_payer, at=at, by=by)
            account.require_same(payer=payer)
            return self._save_account(account, at=at)

    @decided_again
    def suspend_account(self, account_id: str, reason: str, *, at: datetime, actor: str = "") -> AccountRow:
        with self._turn:
            account = self._get_account(account_id)
            account.suspend(reason, at=at, actor=actor)
            return self._save_account(account, at=at)

    @decided_again
    def resume_account(self, account_id: str, *, at: datetime, by: Author = UNSAID) -> AccountRow:
        with self._turn:
            account = self._get_account(account_id)
            account.resume(at=at, by=by)
            return self._save_account(account, at=at)

    @decided_again
    def set_payer(self, account_id: str, payer: str, *, at: datetime, by: Author = UNSAID) -> AccountRow:
        with self._turn:
            account = self._get_account(account_id)
            account.set_payer(payer, at=at, by=by)
            return self._save_account(account, at=at)

    @decided_again
    def issue_key(
        self,
        *,
        account_id: str,
        key_id: str,
        user_id: str | None,
        secret_hash: str,
        at: datetime,
        by: Author = UNSAID,
    ) -> KeyRow:
        with self._turn:
            account = self._get_account(account_id)
            if (key := self._find_key(key_id)) is not None:
                key.require_same(account_id=account_id, user_id=user_id, secret_hash=secret_hash)
                return KeyRow.of(key)
            key = ApiKey.issue(
                account_id=account_id,
                key_id=key_id,
                user_id=user_id,
                secret_hash=secret_hash,
                payer=account.payer,
                at=at,
                by=by,
            )
            account.admit_key(at=at)
            self._save(account, key, rows=[AccountRow.of(account), KeyRow.of(key)], at=at)
            return KeyRow.of(key)

    @decided_again
    def revoke_key(self, *, account_id: str, key_id: str, at: datetime, by: Author = UNSAID) -> KeyRow:
        with self._turn:
            key = self._find_key(key_id)
            if key is None or key.account_id != account_id:
                raise KeyNotFound(key_id)
            key.revoke(at=at, by=by)
            if key.pending_events:
                self._save(key, rows=[KeyRow.of(key)], at=at)
            return KeyRow.of(key)

    @decided_again
    def add_hook(self, *, account_id: str, hook_id: str, at: datetime, by: Author = UNSAID) -> HookRow:
        with self._turn:
            account = self._get_account(account_id)
            if (hook := self._find_hook(hook_id)) is not None:
                hook.require_same(account_id=account_id)
                return HookRow.of(hook)
            hook = Hook.add(account_id=account_id, hook_id=hook_id, at=at, by=by)
            account.admit_hook(at=at)
            self._save(account, hook, rows=[AccountRow.of(account), HookRow.of(hook)], at=at)
            return HookRow.of(hook)

    @decided_again
    def rotate_hook(
        self, *, account_id: str, hook_id: str, overlap: timedelta, at: datetime, by: Author = UNSAID
    ) -> HookRow:
        with self._turn:
            hook = self._get_hook(account_id, hook_id)
            hook.rotate(overlap, at=at, by=by)
            self._save(hook, rows=[HookRow.of(hook)], at=at)
            return HookRow.of(hook)

    @decided_again
    def remove_hook(self, *, account_id: str, hook_id: str, at: datetime, by: Author = UNSAID) -> HookRow:
        with self._turn:
            account, hook = self._get_account(account_id), self._get_hook(account_id, hook_id)
            hook.remove(at=at, by=by)
            if hook.pending_events:
                account.dismiss_hook(at=at)
                self._save(account, hook, rows=[AccountRow.of(account), HookRow.of(hook)], at=at)
            return HookRow.of(hook)

    def hooks(self, account_id: str) -> list[HookRow]:
        self.account(account_id)
        return [row for row in self._directory.hooks(account_id) if not row.removed]

    def account(self, account_id: str) -> AccountRow:
        row = self._directory.account(account_id)
        if row is None:
            raise AccountNotFound(account_id)
        return row

    def accounts(self, *, after: str, limit: int) -> list[AccountRow]:
        return self._directory.accounts(after=after, limit=_bounded(limit))

    def keys(self, account_id: str, *, after: str, limit: int) -> list[KeyRow]:
        self.account(account_id)
        return self._directory.keys(account_id, after=after, limit=_bounded(limit))

    def identity(self, key_id: str) -> IdentityRow:
        row = self._directory.identity(key_id)
        if row is None:
            raise KeyNotFound(key_id)
        return row

    def _find_account(self, account_id: str) -> Account | None:
        try:
            account: Account = self.repository.get(Account.create_id(account_id))
        except AggregateNotFoundError:
            return None
        return account

    def _get_account(self, account_id: str) -> Account:
        account = self._find_account(account_id)
        if account is None:
            raise AccountNotFound(account_id)
        return account

    def _find_key(self, key_id: str) -> ApiKey | None:
        try:
            key: ApiKey = self.repository.get(ApiKey.create_id(key_id))
        except AggregateNotFoundError:
            return None
        return key

    def _find_hook(self, hook_id: str) -> Hook | None:
        try:
            hook: Hook = self.repository.get(Hook.create_id(hook_id))
        except AggregateNotFoundError:
            return None
        return hook

    def _get_hook(self, account_id: str, hook_id: str) -> Hook:
        hook = self._find_hook(hook_id)
        if hook is None or hook.account_id != account_id:
            raise HookNotFound(hook_id)
        return hook

    def _save_account(self, account: Account, *, at: datetime) -> AccountRow:
        if account.pending_events:
            self._save(account, rows=[AccountRow.of(account)], at=at)
        return AccountRow.of(account)

    def _save(self, *aggregates: Account | ApiKey | Hook, rows: list[Row], at: datetime) -> None:
        """Save events and rows together. After a failure the next use reads from the store."""
        events = [public_of(stored) for aggregate in aggregates for stored in aggregate.pending_events]
        try:
            self.save(*aggregates, effects=[self._directory.record(*rows), self.audit.record(events, at)])
        except PersistenceError:
            self.forget(*(aggregate.id for aggregate in aggregates))
            raise


def _bounded(limit: int) -> int:
    return max(1, min(limit, PAGE_MAX))
