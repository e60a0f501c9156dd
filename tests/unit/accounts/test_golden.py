"""Stored events as each version wrote them, the first of a topic first: they have to be readable for ever."""

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from eventsourcing.domain import Aggregate
from eventsourcing.persistence import Notification, StoredEvent

from contracts import accounts as contract
from services.accounts.domain.accounts import Account
from services.accounts.domain.api_key import ApiKey
from services.accounts.outbox import AccountsOutbox, public_of
from shared.store import EventSourced
from tests.architecture.test_contracts_only_grow import domain_classes

GOLDEN: dict[str, list[str]] = json.loads((Path(__file__).parent / "golden.json").read_text())
CASES = [(topic, state) for topic, states in GOLDEN.items() for state in states]


def stored(topic: str, state: str) -> StoredEvent:
    return StoredEvent(UUID(int=1), 1, topic, state.encode())


@pytest.mark.parametrize(("topic", "state"), CASES)
def test_stored_bytes_are_read_and_written_unchanged(topic: str, state: str) -> None:
    mapper = EventSourced().mapper

    assert mapper.to_stored_event(mapper.to_domain_event(stored(topic, state))) == stored(topic, state)


def test_every_stored_event_has_its_golden_bytes() -> None:
    events = {
        found.TOPIC
        for found in domain_classes()
        if found.__module__.startswith("services.accounts.")
        and not issubclass(found, Aggregate)
        and not found.TOPIC.endswith(".event")
    }

    assert events == set(GOLDEN)


@pytest.mark.parametrize("topic", [Account.Opened.TOPIC, ApiKey.Issued.TOPIC])
def test_what_was_stored_before_there_were_payers_has_none(topic: str) -> None:
    before = stored(topic, GOLDEN[topic][0])

    opened = EventSourced().mapper.to_domain_event(before)
    assert isinstance(opened, Account.Opened | ApiKey.Issued)
    replayed = opened.mutate(None)

    assert b"payer" not in before.state
    assert replayed is not None
    assert (replayed.account_id, replayed.payer) == ("acme", None)


@pytest.mark.parametrize(
    ("topic", "public"),
    [
        (Account.Opened.TOPIC, contract.AccountOpened(account_id="acme", payer=None)),
        (
            ApiKey.Issued.TOPIC,
            contract.ApiKeyIssued(account_id="acme", key_id="k3yIdOf12Ltr", user_id="user-1", payer=None),
        ),
    ],
)
def test_what_was_stored_before_there_were_payers_is_still_told(topic: str, public: object) -> None:
    before = stored(topic, GOLDEN[topic][0])
    notification = Notification(before.originator_id, 1, topic, before.state, 1)

    told, _ = AccountsOutbox(EventSourced().mapper).to_public(notification)

    assert told == public


def test_what_was_stored_before_changes_had_authors_is_replayed_and_told_without() -> None:
    mapper = EventSourced().mapper
    topics = [topic for topic in AccountsOutbox.topics if topic.startswith("accounts.account_")]
    events: list[Any] = [mapper.to_domain_event(stored(topic, GOLDEN[topic][0])) for topic in topics]
    account = None
    for version, event in enumerate(events, start=1):
        event.__dict__["originator_version"] = version
        account = event.mutate(account)

    assert account is not None
    assert (account.suspended, account.version) == (False, len(topics))
    assert [public_of(event).actor for event in events] == [""] * len(topics)  # type: ignore[union-attr] # each has one


def test_an_author_is_told_with_each_change() -> None:
    mapper = EventSourced().mapper
    newest = [mapper.to_domain_event(stored(topic, GOLDEN[topic][-1])) for topic in AccountsOutbox.topics]

    told: list[Any] = [public_of(event) for event in newest]

    assert {event.actor for event in told} == {"admin:0a1b2c3d"}
    assert {event.reason for event in told} == {"asked_for", "unpaid"}
