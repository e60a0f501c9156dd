from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from eventsourcing.persistence import IntegrityError

from services.accounts.application import Accounts
from services.accounts.directory import KeyRow
from services.accounts.domain.accounts import AccountIdTaken, AccountNotFound, AccountSuspended
from services.accounts.domain.api_key import KeyIdTaken, KeyNotFound
from tests.unit.accounts.fake_directory import FakeDirectory

NOW = datetime(2031, 5, 17, 8, 30, tzinfo=UTC)
HASH = "ab" * 32
KEY_ID = "k3yIdOf12Ltr"
PAYER, OTHER = "0x" + "1a" * 20, "0x" + "2b" * 20


class Racing(Accounts):
    """Another replica is faster on the first save."""

    races = 1

    def save(self, *objs: object, **kwargs: object) -> list[object]:  # type: ignore[override]
        if self.races:
            self.races -= 1
            for aggregate in objs:
                aggregate.collect_events()  # type: ignore[attr-defined] # as the library does
            raise IntegrityError
        return super().save(*objs, **kwargs)  # type: ignore[arg-type, return-value]


@pytest.fixture
def accounts() -> Accounts:
    return Accounts(lambda _: FakeDirectory())


def issue(accounts: Accounts, key_id: str = KEY_ID, *, secret_hash: str = HASH) -> KeyRow:
    return accounts.issue_key(account_id="acme", key_id=key_id, user_id=None, secret_hash=secret_hash, at=NOW)


def topics(accounts: Accounts) -> Sequence[str]:
    return [entry.topic for entry in accounts.recorder.select_notifications(1, 100)]


def test_opening_again_answers_the_same_and_stores_nothing(accounts: Accounts) -> None:
    first = accounts.open_account("acme", at=NOW)
    again = accounts.open_account("acme", at=datetime(2033, 1, 1, tzinfo=UTC))

    assert again == first
    assert topics(accounts) == ["accounts.account_opened"]


def test_issuing_again_answers_the_same_and_stores_nothing(accounts: Accounts) -> None:
    accounts.open_account("acme", at=NOW)
    first = issue(accounts)
    stored = topics(accounts)

    assert issue(accounts) == first
    assert topics(accounts) == stored


def test_a_repeated_issue_is_answered_even_after_a_suspension(accounts: Accounts) -> None:
    accounts.open_account("acme", at=NOW)
    first = issue(accounts)
    accounts.suspend_account("acme", "unpaid", at=NOW)

    assert issue(accounts) == first
    with pytest.raises(AccountSuspended):
        issue(accounts, "anotherKeyId")


def test_a_key_id_with_another_secret_is_taken(accounts: Accounts) -> None:
    accounts.open_account("acme", at=NOW)
    issue(accounts)

    with pytest.raises(KeyIdTaken):
        issue(accounts, secret_hash="cd" * 32)


def test_a_missing_account_gets_no_key(accounts: Accounts) -> None:
    with pytest.raises(AccountNotFound):
        issue(accounts)


def test_an_account_cannot_revoke_the_key_of_another(accounts: Accounts) -> None:
    accounts.open_account("acme", at=NOW)
    accounts.open_account("other", at=NOW)
    issue(accounts)

    with pytest.raises(KeyNotFound):
        accounts.revoke_key(account_id="other", key_id=KEY_ID, at=NOW)
    assert not accounts.identity(KEY_ID).revoked


def test_a_lost_race_is_decided_again_from_the_store() -> None:
    accounts = Racing(lambda _: FakeDirectory())

    assert accounts.open_account("acme", at=NOW).account_id == "acme"
    accounts.races = 1
    accounts.suspend_account("acme", "unpaid", at=NOW)

    assert topics(accounts) == ["accounts.account_opened", "accounts.account_suspended"]


def test_pages_follow_one_another(accounts: Accounts) -> None:
    for account_id in ("cat", "ant", "bee"):
        accounts.open_account(account_id, at=NOW)

    first = accounts.accounts(after="", limit=2)
    rest = accounts.accounts(after=first[-1].account_id, limit=2)

    assert [row.account_id for row in first + rest] == ["ant", "bee", "cat"]


def test_a_key_keeps_for_life_the_payer_its_account_had(accounts: Accounts) -> None:
    accounts.open_account("acme", payer=PAYER, at=NOW)
    first = issue(accounts)
    accounts.set_payer("acme", OTHER, at=NOW)
    second = issue(accounts, "anotherKeyId")
    accounts.revoke_key(account_id="acme", key_id=KEY_ID, at=NOW)

    assert (first.payer, second.payer) == (PAYER, OTHER)
    assert issue(accounts).payer == PAYER
    assert [accounts.identity(key_id).payer for key_id in (KEY_ID, "anotherKeyId")] == [PAYER, OTHER]
    assert accounts.account("acme").payer == OTHER


def test_an_account_is_opened_with_the_default_payer_unless_it_names_one() -> None:
    accounts = Accounts(lambda _: FakeDirectory(), default_payer=PAYER)
    later = Accounts(lambda _: FakeDirectory())

    assert accounts.open_account("acme", at=NOW).payer == PAYER
    assert accounts.open_account("bolt", payer=OTHER, at=NOW).payer == OTHER
    assert later.open_account("acme", at=NOW).payer is None


def test_opening_again_with_another_payer_is_refused(accounts: Accounts) -> None:
    first = accounts.open_account("acme", payer=PAYER, at=NOW)

    assert accounts.open_account("acme", payer=PAYER, at=NOW) == first
    assert accounts.open_account("acme", at=NOW) == first
    with pytest.raises(AccountIdTaken):
        accounts.open_account("acme", payer=OTHER, at=NOW)
    assert topics(accounts) == ["accounts.account_opened"]


def test_a_missing_account_has_no_payer_to_set(accounts: Accounts) -> None:
    with pytest.raises(AccountNotFound):
        accounts.set_payer("acme", PAYER, at=NOW)
