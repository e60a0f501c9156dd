"""The books of users, keys and session tokens: what their sessions leave behind."""

from services.quota.domain.limit_set import Scope
from tests.unit.quota.ledger import Ledger

ANN = Scope("account-1", user_id="ann")


def test_a_session_that_spent_all_it_had_leaves_its_place_when_it_is_closed() -> None:
    ledger = Ledger()
    ledger.limit(ANN, sessions_max=1)
    ledger.ask("s1", user_id="ann")
    ledger.paid("s1", 100)
    assert ledger.refusal("s2", user_id="ann").reason == "too_many_sessions"

    ledger.closed("s1", 100)

    assert ledger.ask("s2", user_id="ann") == 100
    assert ledger.limiting.view(ANN, ledger.now).sessions == 1


def test_a_session_that_goes_on_with_another_token_leaves_the_place_of_the_one_before() -> None:
    ledger, first, second = Ledger(), *(Scope("account-1", token_id=f"token-{name}") for name in "ab")
    for token in (first, second):
        ledger.limit(token, spend_limit_wei=1000, sessions_max=1)
    ledger.ask("s1", token_id=first.token_id)
    ledger.paid("s1", 100)

    ledger.ask("s1", 2, token_id=second.token_id)

    assert [ledger.limiting.view(token, ledger.now).sessions for token in (first, second)] == [0, 1]


def test_what_a_session_held_before_a_limit_counted_it_is_within_the_limit_too() -> None:
    ledger = Ledger()
    ledger.ask("s1", needed=60, user_id="ann")
    ledger.limit(ANN, spend_limit_wei=100)

    assert ledger.refusal("s1", 2, needed=60, user_id="ann").reason == "allowance_held"

    ledger.closed("s1", 0)
    assert ledger.ask("s1", 3, needed=60, wanted=200, user_id="ann") == 100
