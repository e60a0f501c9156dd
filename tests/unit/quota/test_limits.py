"""Limits of accounts, users, keys and tokens, and of the plans they are on: what they refuse."""

from typing import Any

import pytest

from services.quota.domain.limit_set import Author, BadActor, BadReason, Scope
from services.quota.domain.limits import Limits
from services.quota.domain.plan import PlanNotFound, Terms
from shared.money import Wei
from tests.unit.quota.ledger import AUTHOR, Ledger
from tests.unit.quota.limited import rows

USER = Scope("account-1", user_id="ann")
KEY = Scope("account-1", key_id="key-1")
TOKEN = Scope("account-1", token_id="t-1")


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def test_a_users_limit_holds_beside_the_accounts(ledger: Ledger) -> None:
    ledger.limit(USER, spend_per_day_wei=Wei(150))

    first = ledger.ask(needed=100, wanted=400, user_id="ann")
    ledger.paid("s1", 100)
    refusal = ledger.refusal("s2", needed=60, user_id="ann")
    other = ledger.ask("s3", needed=60, user_id="bob")

    assert (first, other) == (150, 60)
    assert (refusal.status, refusal.reason) == (402, "spend_limit_reached")
    assert "user ann" in str(refusal)
    assert rows(ledger, USER)["spend_per_day_wei"] == (150, 100, 50, 0)


def test_what_a_closed_session_held_is_free_for_its_user_too(ledger: Ledger) -> None:
    ledger.limit(USER, spend_per_day_wei=Wei(150))
    ledger.ask(needed=100, wanted=150, user_id="ann")
    ledger.paid("s1", 100)
    held = ledger.refusal("s2", needed=50, user_id="ann")

    ledger.closed("s1", 100)

    assert held.status == 429
    assert ledger.ask("s2", needed=50, user_id="ann") == 50


@pytest.mark.parametrize(("scope", "who"), [(KEY, {}), (TOKEN, {"token_id": "t-1"})])
def test_a_keys_and_a_tokens_limits_hold(ledger: Ledger, scope: Scope, who: dict[str, Any]) -> None:
    ledger.limit(scope, spend_limit_wei=Wei(150))

    assert ledger.ask(needed=100, wanted=400, **who) == 150
    ledger.paid("s1", 150)

    assert ledger.refusal("s2", needed=1, **who).status == 402
    assert ledger.ask("s3", needed=1, key_id="key-2") == 1


def test_a_session_that_goes_on_with_another_token_counts_for_that_one(ledger: Ledger) -> None:
    other = Scope("account-1", token_id="t-2")
    ledger.limit(TOKEN, spend_limit_wei=Wei(150))
    ledger.limit(other, spend_limit_wei=Wei(400))
    ledger.ask(needed=100, wanted=150, token_id="t-1")
    ledger.paid("s1", 90)

    ledger.ask("s1", 2, needed=100, token_id="t-2")
    ledger.paid("s1", 20)

    assert rows(ledger, TOKEN)["spend_limit_wei"] == (150, 90, 0, 60)
    assert rows(ledger, other)["spend_limit_wei"] == (400, 20, 140, 240)


def test_a_plan_gives_its_accounts_users_and_keys_limits(ledger: Ledger) -> None:
    terms = Terms(
        limits=Limits(spend_per_day_wei=Wei(500)),
        user_limits=Limits(spend_per_day_wei=Wei(200)),
        key_limits=Limits(spend_per_hour_wei=Wei(300)),
    )
    ledger.limiting.set_plan("pro", terms, AUTHOR, ledger.now)
    ledger.limiting.assign_plan("account-1", "pro", AUTHOR, ledger.now)

    ann = ledger.ask(needed=100, wanted=900, user_id="ann")
    ledger.paid("s1", 200)
    bob = ledger.ask("s2", needed=40, wanted=900, user_id="bob")
    more = ledger.refusal("s1", 2, needed=1, user_id="ann")
    refusal = ledger.refusal("s2", 2, needed=101, user_id="bob")

    assert (ann, bob) == (200, 50)  # half of what the key has left, for two run
    assert (more.status, refusal.status) == (402, 402)
    assert "user ann" in str(more)
    assert "key key-1" in str(refusal)


def test_every_key_may_have_a_cap_by_default() -> None:
    ledger = Ledger(default_key_limits=Limits(spend_per_hour_wei=Wei(120)))
    ledger.limit(Scope("account-1", key_id="key-2"), spend_per_hour_wei=Wei(200))

    capped = ledger.ask(needed=100, wanted=400)
    own = ledger.ask("s2", needed=100, wanted=400, key_id="key-2")

    assert (capped, own) == (120, 200)


def test_an_accounts_own_limit_comes_before_its_plans(ledger: Ledger) -> None:
    ledger.limiting.set_plan("pro", Terms(limits=Limits(sessions_max=1)), AUTHOR, ledger.now)
    ledger.limiting.assign_plan("account-1", "pro", AUTHOR, ledger.now)
    ledger.limit(sessions_max=2)

    assert ledger.ask("s1", needed=1) == ledger.ask("s2", needed=1) == 1
    assert ledger.refusal("s3", needed=1).reason == "too_many_sessions"


def test_the_default_plan_is_that_of_accounts_without_one(ledger: Ledger) -> None:
    ledger.limiting.set_plan("default", Terms(limits=Limits(sessions_max=1)), AUTHOR, ledger.now)

    ledger.ask("s1", needed=1)

    assert ledger.refusal("s2", needed=1).reason == "too_many_sessions"


def test_there_is_no_plan_but_one_that_was_set(ledger: Ledger) -> None:
    with pytest.raises(PlanNotFound):
        ledger.limiting.assign_plan("account-1", "gold", AUTHOR, ledger.now)


def test_no_more_sessions_run_than_may(ledger: Ledger) -> None:
    ledger.limit(USER, sessions_max=1)
    ledger.ask("s1", needed=10, user_id="ann")

    refusal = ledger.refusal("s2", needed=10, user_id="ann")
    again = ledger.ask("s1", 2, needed=10, user_id="ann")
    ledger.closed("s1", 0, ask_number=2)

    assert (refusal.status, refusal.reason, refusal.retry_after_seconds) == (429, "too_many_sessions", 10)
    assert again == 10
    assert ledger.ask("s3", needed=10, user_id="ann") == 10


def test_overage_warns_and_refuses_nothing(ledger: Ledger) -> None:
    ledger.limit(spend_per_day_wei=Wei(100), overage=True)

    ledger.ask(needed=300)
    ledger.paid("s1", 300)

    assert ledger.ask("s2", needed=300) == 300
    assert ledger.budget.warned["spend_per_day_wei"][1] == 100


def test_who_is_on_a_plan_leaves_the_last_of_a_budget_to_sessions_that_run() -> None:
    ledger = Ledger()
    ledger.limiting.set_plan("pro", Terms(rank=5), AUTHOR, ledger.now)
    ledger.limiting.assign_plan("account-1", "pro", AUTHOR, ledger.now)
    ledger.ask("s1", needed=900)

    new = ledger.refusal("s2", needed=60)

    assert (new.status, new.reason) == (429, "budget_short")
    assert ledger.ask("s1", 2, needed=60) == 60


@pytest.mark.parametrize(
    ("terms", "number", "least"),
    [
        (Terms(rank=9, trial=True), 2, 20),
        (Terms(rank=9), 1, 1),
        (Terms(rank=2), 1, 8),
        (Terms(rank=2), 2, 0),
        (None, 1, 0),
    ],
)
def test_a_short_pool_is_left_to_those_who_go_without_last(
    terms: Terms | None, number: int, least: int
) -> None:
    ledger = Ledger(deposit=1000)
    ledger.limit(spend_limit_wei=Wei(10**9))
    if terms is not None:
        ledger.limiting.set_plan("some", terms, AUTHOR, ledger.now)
        ledger.limiting.assign_plan("account-1", "some", AUTHOR, ledger.now)
    if number == 2:
        ledger.ask("s1", needed=1)
    room = 1000 - 10 * least - (number - 1)

    refusal = ledger.refusal("s1", number, needed=room + 1)

    assert refusal.reason in {"pool_short", "pool_exhausted"}
    assert ledger.ask("s1", number, needed=room) == room


def test_authors_are_ids_and_codes() -> None:
    with pytest.raises(BadActor):
        Author("somebody@example.org", "test")
    with pytest.raises(BadReason):
        Author("admin", "Because I said so.")
