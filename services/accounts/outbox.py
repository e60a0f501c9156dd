"""Stored events of accounts as public ones."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import Mapper, Notification

from contracts import accounts as contract
from contracts.message import Event
from services.accounts.domain import Account, ApiKey


class AccountsOutbox:
    topics: Sequence[str] = (
        Account.Opened.TOPIC,
        Account.Suspended.TOPIC,
        Account.Resumed.TOPIC,
        Account.PayerSet.TOPIC,
        ApiKey.Issued.TOPIC,
        ApiKey.Revoked.TOPIC,
    )

    def __init__(self, mapper: Mapper[UUID]) -> None:
        self._mapper = mapper

    def to_public(self, notification: Notification) -> tuple[Event, datetime]:
        stored = self._mapper.to_domain_event(notification)
        assert isinstance(stored, Account.Event | Account.Opened | ApiKey.Event | ApiKey.Issued)
        return _public(stored), stored.timestamp


def _public(stored: DomainEventProtocol[UUID]) -> Event:
    match stored:
        case Account.Opened():
            return contract.AccountOpened(account_id=stored.account_id, payer=stored.payer)
        case Account.Suspended():
            return contract.AccountSuspended(account_id=stored.account_id, reason=stored.reason)
        case Account.Resumed():
            return contract.AccountResumed(account_id=stored.account_id)
        case Account.PayerSet():
            return contract.AccountPayerSet(account_id=stored.account_id, payer=stored.payer)
        case ApiKey.Issued():
            return contract.ApiKeyIssued(
                account_id=stored.account_id,
                key_id=stored.key_id,
                user_id=stored.user_id,
                payer=stored.payer,
            )
        case ApiKey.Revoked():
            return contract.ApiKeyRevoked(account_id=stored.account_id, key_id=stored.key_id)
    raise ValueError(f"{type(stored).__qualname__} is not public")
