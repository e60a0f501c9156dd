"""Stored events of accounts as public ones: what a contract has a field for is told, and no more."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from eventsourcing.domain import Aggregate, DomainEventProtocol
from eventsourcing.persistence import Mapper, Notification

from contracts import accounts as contract
from contracts import hooks
from contracts.message import Event
from services.accounts.domain.accounts import Account
from services.accounts.domain.api_key import ApiKey
from services.accounts.domain.hook import Hook

CONTRACTS: dict[type[DomainEventProtocol[UUID]], type[Event]] = {
    Account.Opened: contract.AccountOpened,
    Account.Suspended: contract.AccountSuspended,
    Account.Resumed: contract.AccountResumed,
    Account.PayerSet: contract.AccountPayerSet,
    ApiKey.Issued: contract.ApiKeyIssued,
    ApiKey.Revoked: contract.ApiKeyRevoked,
    Hook.Added: hooks.HookAdded,
    Hook.Rotated: hooks.HookRotated,
    Hook.Removed: hooks.HookRemoved,
}


class AccountsOutbox:
    topics: Sequence[str] = (
        Account.Opened.TOPIC,
        Account.Suspended.TOPIC,
        Account.Resumed.TOPIC,
        Account.PayerSet.TOPIC,
        ApiKey.Issued.TOPIC,
        ApiKey.Revoked.TOPIC,
        Hook.Added.TOPIC,
        Hook.Rotated.TOPIC,
        Hook.Removed.TOPIC,
    )

    def __init__(self, mapper: Mapper[UUID]) -> None:
        self._mapper = mapper

    def to_public(self, notification: Notification) -> tuple[Event, datetime]:
        stored = self._mapper.to_domain_event(notification)
        assert isinstance(stored, Aggregate.Event)
        event = public_of(stored)
        if event is None:
            raise ValueError(f"{type(stored).__qualname__} is not public")
        return event, stored.timestamp


def public_of(stored: DomainEventProtocol[UUID]) -> Event | None:
    """What is told of a stored event; None where nothing is."""
    told = CONTRACTS.get(type(stored))
    if told is None:
        return None
    return told.model_validate({name: getattr(stored, name) for name in told.model_fields})
