from datetime import UTC, datetime, timedelta

import pytest

from services.accounts.domain.accounts import (
    KEYS_MAX,
    Account,
    AccountIdTaken,
    AccountSuspended,
    Author,
    BadId,
    TooManyKeys,
)
from services.accounts.domain.api_key import ApiKey, KeyIdTaken

NOW = datetime(2031, 5, 17, 8, 30, tzinfo=UTC)
LATER = NOW + timedelta(days=3)
HASH = "ab" * 32
PAYER, OTHER = "0x" + "1a" * 20, "0x" + "2b" * 20


def new_key(*, key_id: str = "k3yIdOf12Ltr", user_id: str | None = None, secret_hash: str = HASH) -> ApiKey:
    return ApiKey.issue(account_id="acme", key_id=key_id, user_id=user_id, secret_hash=secret_hash, at=NOW)


def test_an_account_is_opened_at_the_time_given() -> None:
    account = Account.open("acme-7", at=NOW)

    [opened] = account.collect_events()
    assert isinstance(opened, Account.Opened)
    assert (opened.account_id, opened.timestamp, account.created_on) == ("acme-7", NOW, NOW)


@pytest.mark.parametrize("account_id", ["ab", "a" * 65, "Acme", "ac me", "acme\n", "", "ac.me", "ä-acme"])
def test_an_account_id_of_another_form_is_refused(account_id: str) -> None:
    with pytest.raises(BadId):
        Account.open(account_id, at=NOW)


def test_suspending_twice_stores_one_event() -> None:
    account = Account.open("acme", at=NOW)
    account.suspend("unpaid", at=LATER)
    account.suspend("abuse", at=LATER)

    events = account.collect_events()
    assert [type(event) for event in events] == [Account.Opened, Account.Suspended]
    assert events[-1].timestamp == LATER


def test_resuming_an_open_account_stores_nothing() -> None:
    account = Account.open("acme", at=NOW)
    account.collect_events()

    account.resume(at=LATER)

    assert account.collect_events() == []


def test_a_suspended_account_gets_no_key_until_it_is_resumed() -> None:
    account = Account.open("acme", at=NOW)
    account.suspend("unpaid", at=NOW)

    with pytest.raises(AccountSuspended):
        account.admit_key(at=LATER)

    account.resume(at=LATER)
    account.admit_key(at=LATER)
    assert account.keys == 1


def test_a_reason_is_a_code_and_no_free_text() -> None:
    account = Account.open("acme", at=NOW)

    with pytest.raises(BadId, match="reason"):
        account.suspend("Mr. Miller did not pay", at=NOW)


def test_an_account_has_a_bounded_number_of_keys() -> None:
    account = Account.open("acme", at=NOW)
    for _ in range(KEYS_MAX):
        account.admit_key(at=NOW)

    with pytest.raises(TooManyKeys):
        account.admit_key(at=NOW)


@pytest.mark.parametrize(
    "wrong", [{"key_id": "short"}, {"user_id": "a user"}, {"user_id": "u" * 129}, {"secret_hash": "ff"}]
)
def test_a_key_of_another_form_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(BadId, match=next(iter(wrong))):
        new_key(**wrong)


def test_a_key_with_other_content_is_no_repeat() -> None:
    key = new_key(user_id="user-1")

    key.require_same(account_id="acme", user_id="user-1", secret_hash=HASH)
    with pytest.raises(KeyIdTaken):
        key.require_same(account_id="other", user_id="user-1", secret_hash=HASH)
    with pytest.raises(KeyIdTaken):
        key.require_same(account_id="acme", user_id=None, secret_hash=HASH)


def test_revoking_twice_stores_one_event() -> None:
    key = new_key()
    key.revoke(at=LATER)
    key.revoke(at=LATER)

    assert [type(event) for event in key.collect_events()] == [ApiKey.Issued, ApiKey.Revoked]


def test_setting_the_payer_it_has_stores_nothing() -> None:
    account = Account.open("acme", payer=PAYER, at=NOW)
    account.set_payer(PAYER, at=LATER)
    account.set_payer(OTHER, at=LATER)
    account.set_payer(OTHER, at=LATER)

    assert [type(event) for event in account.collect_events()] == [Account.Opened, Account.PayerSet]
    assert account.payer == OTHER


def test_a_repeated_opening_is_one_with_the_payer_it_had_then() -> None:
    account = Account.open("acme", payer=PAYER, at=NOW)
    account.set_payer(OTHER, at=LATER)

    account.require_same(payer=PAYER)
    account.require_same(payer=None)
    with pytest.raises(AccountIdTaken):
        account.require_same(payer=OTHER)


@pytest.mark.parametrize("payer", ["", "0x", "1a" * 20, "0x" + "1A" * 20, "0x" + "1a" * 21, PAYER + "\n"])
def test_a_payer_of_another_form_is_refused(payer: str) -> None:
    account = Account.open("acme", at=NOW)

    with pytest.raises(BadId, match="payer"):
        account.set_payer(payer, at=LATER)
    with pytest.raises(BadId, match="payer"):
        Account.open("acme", payer=payer, at=NOW)


@pytest.mark.parametrize("actor", ["a b", "a@example.org", "x" * 129, "ä"])
def test_an_actor_is_an_id_and_no_name(actor: str) -> None:
    with pytest.raises(BadId, match="actor"):
        Author(actor, "unpaid")


def test_a_reason_is_a_code() -> None:
    with pytest.raises(BadId, match="reason"):
        Author("cli", "Because they did not pay")
