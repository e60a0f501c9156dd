from datetime import UTC, datetime

import pytest

from contracts import accounts as contract
from services.accounts.domain.accounts import Account
from services.accounts.domain.api_key import ApiKey
from services.accounts.outbox import AccountsOutbox
from shared.store import EventSourced

NOW = datetime(2031, 5, 17, 8, 30, tzinfo=UTC)
PAYER, OTHER = "0x" + "1a" * 20, "0x" + "2b" * 20


@pytest.fixture
def store() -> EventSourced:
    return EventSourced()


def test_every_public_event_says_ids_and_nothing_secret(store: EventSourced) -> None:
    account = Account.open("acme", payer=PAYER, at=NOW)
    account.admit_key(at=NOW)
    account.suspend("unpaid", at=NOW)
    account.resume(at=NOW)
    account.set_payer(OTHER, at=NOW)
    key = ApiKey.issue(
        account_id="acme",
        key_id="k3yIdOf12Ltr",
        user_id="u-9",
        secret_hash="ab" * 32,
        payer=PAYER,
        at=NOW,
    )
    key.revoke(at=NOW)
    store.save(account, key)
    outbox = AccountsOutbox(store.mapper)

    notifications = store.recorder.select_notifications(1, 10, topics=outbox.topics)
    public = [outbox.to_public(notification) for notification in notifications]

    assert [event for event, _ in public] == [
        contract.AccountOpened(account_id="acme", payer=PAYER),
        contract.AccountSuspended(account_id="acme", reason="unpaid"),
        contract.AccountResumed(account_id="acme"),
        contract.AccountPayerSet(account_id="acme", payer=OTHER),
        contract.ApiKeyIssued(account_id="acme", key_id="k3yIdOf12Ltr", user_id="u-9", payer=PAYER),
        contract.ApiKeyRevoked(account_id="acme", key_id="k3yIdOf12Ltr"),
    ]
    assert {at for _, at in public} == {NOW}


def test_a_private_event_has_no_public_form(store: EventSourced) -> None:
    account = Account.open("acme", at=NOW)
    account.admit_key(at=NOW)
    store.save(account)
    [_, counted] = store.recorder.select_notifications(1, 10)

    with pytest.raises(ValueError, match="KeyAdmitted"):
        AccountsOutbox(store.mapper).to_public(counted)
