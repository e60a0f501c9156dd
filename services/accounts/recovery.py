"""Withdraws again what a restore of accounts' database had lost, as far as its stream still has it.

Hooks are rotated and removed again: a version's secret is the same each time. Else only withdrawals:
what is refused too much is seen at once, and allowed again by hand. A key that was issued in the lost
tail is gone, as its HMAC was never on the bus.
"""

from collections.abc import Sequence
from datetime import timedelta

import structlog

from contracts.accounts import AccountResumed, AccountSuspended, ApiKeyRevoked
from contracts.hooks import HookRemoved, HookRotated
from contracts.message import LogEntry
from services.accounts.application import Accounts
from services.accounts.domain.accounts import AccountNotFound, Author
from services.accounts.domain.api_key import KeyNotFound
from services.accounts.domain.hook import HookNotFound
from shared.clock import Clock
from shared.relay import Recover

log = structlog.get_logger()


def recovering(accounts: Accounts, clock: Clock) -> Recover:
    """What the relay does with entries of a lost history, in their order."""
    suspended: set[str] = set()  # by what is told again: only that may be taken back by it

    def withdraw(entry: LogEntry) -> None:
        match entry.subject:
            case AccountSuspended.subject:
                told = AccountSuspended.model_validate(entry.event)
                if not accounts.account(told.account_id).suspended:
                    accounts.suspend_account(told.account_id, told.reason, at=clock.now(), actor=told.actor)
                    suspended.add(told.account_id)
            case AccountResumed.subject:
                resumed = AccountResumed.model_validate(entry.event)
                if resumed.account_id in suspended:
                    by = Author(resumed.actor, resumed.reason)
                    accounts.resume_account(resumed.account_id, at=clock.now(), by=by)
                    suspended.discard(resumed.account_id)
            case _:
                _withdraw_credential(accounts, entry, clock)

    def recover(entries: Sequence[LogEntry]) -> None:
        for entry in entries:
            try:
                withdraw(entry)
            except (AccountNotFound, KeyNotFound, HookNotFound) as gone:
                log.warning("lost_with_its_subject", subject=entry.subject, problem=str(gone))

    return recover


def _withdraw_credential(accounts: Accounts, entry: LogEntry, clock: Clock) -> None:
    match entry.subject:
        case ApiKeyRevoked.subject:
            key = ApiKeyRevoked.model_validate(entry.event)
            by = Author(key.actor, key.reason)
            accounts.revoke_key(account_id=key.account_id, key_id=key.key_id, at=clock.now(), by=by)
        case HookRotated.subject:
            _rotate(accounts, HookRotated.model_validate(entry.event), clock)
        case HookRemoved.subject:
            hook = HookRemoved.model_validate(entry.event)
            by = Author(hook.actor, hook.reason)
            accounts.remove_hook(account_id=hook.account_id, hook_id=hook.hook_id, at=clock.now(), by=by)


def _rotate(accounts: Accounts, told: HookRotated, clock: Clock) -> None:
    """Begin the version again that was lost; the one before stays valid for as long as it was told."""
    known = {hook.hook_id: hook.version for hook in accounts.hooks(told.account_id)}
    if known.get(told.hook_id, 0) >= told.version:
        return
    now = clock.now()
    accounts.rotate_hook(
        account_id=told.account_id,
        hook_id=told.hook_id,
        overlap=max(told.previous_until_at - now, timedelta()),
        at=now,
        by=Author(told.actor, told.reason),
    )
