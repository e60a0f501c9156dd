"""Limits of accounts, users, keys and tokens: what they refuse, and when there is room again."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.quota.domain.budget import Budget
from services.quota.domain.credit import CreditGrant, CreditGrantIdTaken, GrantKind
from services.quota.domain.limit_set import Author, BadActor, BadReason, Scope
from services.quota.domain.limits import Limits
from services.quota.domain.plan import PlanNotFound, Terms
from services.quota.domain.spending import Rate
from services.quota.domain.windows import BadTimeZone
from shared.money import MicroUsd, Wei
from tests.unit.quota.ledger import AUTHOR, NOW, Ledger

ACCOUNT = Scope("account-1")
USER = Scope("account-1", user_id="ann")
KEY = Scope("account-1", key_id="key-1")
TOKEN = Scope("account-1", token_id="t-1")
USD = 10**6  # micro-dollars


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def know_rate(ledger: Ledger, micro_usd_per_eth: int = 10**18) -> None:
    """By default a wei is a micro-dollar."""
    ledger.quota.observe_rate(Rate(MicroUsd(micro_usd_per_eth), "settings", ledger.now))


def test_a_view_says_the_rate_that_dollars_are_counted_with(ledger: Ledger) -> None:
    before = ledger.limiting.view(ACCOUNT, ledger.now).micro_usd_per_eth
    know_rate(ledger, 3_001_000_007)

    assert before is None
    assert ledger.limiting.view(ACCOUNT, ledger.now).micro_usd_per_eth == 3_001_000_007


def rows(ledger: Ledger, scope: Scope = ACCOUNT) -> dict[str, tuple[int, int, int, int]]:
    view = ledger.limiting.view(scope, ledger.now)
    return {row.name: (row.limit, row.used, row.held, row.remaining) for row in view.rows}


@pytest.mark.parametrize(
    ("limit", "later"),
    [
        ("spend_per_hour_wei", timedelta(hours=1)),
        ("spend_per_day_wei", timedelta(days=1)),
        ("spend_per_month_wei", timedelta(days=31)),
    ],
)
def test_a_window_that_is_used_up_refuses_until_it_turns(
    ledger: Ledger, limit: str, later: timedelta
) -> None:
    limits: dict[str, Any] = {limit: Wei(300)}
    ledger.limit(**limits)
    ledger.ask(needed=300)
    ledger.paid("s1", 300)
    ledger.closed("s1", 300)

    refusal = ledger.refusal("s2", needed=1)
    ledger.now += later
    granted = ledger.ask("s3", needed=300)

    assert (refusal.status, refusal.reason) == (402, "spend_limit_reached")
    assert "300 wei of 300 wei spent by account account-1" in str(refusal)
    assert granted == 300


def test_spend_counts_in_the_window_of_the_payments_time(ledger: Ledger) -> None:
    ledger.limit(spend_per_hour_wei=Wei(300))
    ledger.now = NOW.replace(hour=12, minute=59)
    ledger.ask(needed=200)
    ledger.paid("s1", 120)

    ledger.now = NOW.replace(hour=13)
    ledger.paid("s1", 30)

    assert rows(ledger)["spend_per_hour_wei"] == (300, 30, 50, 220)
    assert rows(ledger)["spend_limit_wei"] == (1000, 150, 50, 800)


def test_a_spend_that_is_told_after_the_turn_counts_in_no_window_that_runs(ledger: Ledger) -> None:
    ledger.limit(spend_per_hour_wei=Wei(300))
    ledger.now = NOW.replace(hour=12, minute=59)
    ledger.ask(needed=200)

    ledger.now = NOW.replace(hour=13)
    ledger.paid("s1", 30)
    ledger.now = NOW.replace(hour=12, minute=59)
    ledger.paid("s1", 120)

    ledger.now = NOW.replace(hour=13)
    assert rows(ledger)["spend_per_hour_wei"] == (300, 30, 50, 220)
    assert rows(ledger)["spend_limit_wei"] == (1000, 150, 50, 800)


def test_a_lease_ends_when_the_window_turns(ledger: Ledger) -> None:
    ledger.limit(spend_per_hour_wei=Wei(300))
    ledger.now = NOW.replace(hour=12, minute=20)

    ledger.ask(needed=200)

    assert ledger.budget.sessions["s1"]["ends"] == NOW.replace(hour=13).timestamp()


def test_days_are_those_of_the_accounts_clock(ledger: Ledger) -> None:
    ledger.limiting.set_time_zone("account-1", "Asia/Tokyo", AUTHOR, ledger.now)
    ledger.limit(spend_per_day_wei=Wei(300))
    ledger.now = datetime(2026, 3, 1, 14, 59, tzinfo=UTC)  # a minute to midnight in Tokyo
    ledger.ask(needed=300)
    ledger.paid("s1", 300)

    refused = ledger.refusal("s2", needed=1)
    ledger.pass_time(minutes=1)

    assert refused.status == 402
    assert ledger.ask("s3", needed=300) == 300


def test_what_was_spent_today_counts_when_the_clock_changes(ledger: Ledger) -> None:
    ledger.limit(spend_per_day_wei=Wei(300))
    ledger.ask(needed=300)
    ledger.paid("s1", 200)

    ledger.limiting.set_time_zone("account-1", "America/New_York", AUTHOR, ledger.now)
    ledger.paid("s1", 60)

    assert rows(ledger)["spend_per_day_wei"] == (300, 260, 40, 0)


def test_a_clock_that_is_none_is_refused(ledger: Ledger) -> None:
    with pytest.raises(BadTimeZone, match="time_zone"):
        ledger.limiting.set_time_zone("account-1", "Mars/Olympus", AUTHOR, ledger.now)


def test_dollars_are_held_at_the_rate_that_was_observed(ledger: Ledger) -> None:
    know_rate(ledger, 2 * 10**18)  # a wei is two micro-dollars
    ledger.limit(spend_per_day_micro_usd=MicroUsd(301))

    assert ledger.refusal(needed=151).status == 402
    assert ledger.ask(needed=100, wanted=400) == 150
    ledger.paid("s1", 100)

    assert rows(ledger)["spend_per_day_micro_usd"] == (301, 200, 100, 1)


def test_a_spend_keeps_the_rate_it_was_counted_at(ledger: Ledger) -> None:
    know_rate(ledger, 10**18)
    ledger.limit(spend_per_day_micro_usd=MicroUsd(1000))
    ledger.ask(needed=200)
    ledger.paid("s1", 100)

    know_rate(ledger, 3 * 10**18)
    ledger.paid("s1", 100)

    assert rows(ledger)["spend_per_day_micro_usd"] == (1000, 400, 0, 600)


def test_without_a_rate_dollars_grant_nothing(ledger: Ledger) -> None:
    ledger.limit(spend_per_day_micro_usd=MicroUsd(1000))

    refusal = ledger.refusal()

    assert (refusal.status, refusal.reason) == (503, "rate_unknown")


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


def test_running_sessions_have_a_grace_at_a_limit(ledger: Ledger) -> None:
    ledger.limit(spend_per_day_wei=Wei(100), grace_seconds=60)
    ledger.ask(needed=100)
    ledger.paid("s1", 100)

    new = ledger.refusal("s2", needed=10)
    running = ledger.ask("s1", 2, needed=10, wanted=50)
    ledger.pass_time(seconds=60)
    late = ledger.refusal("s1", 3, needed=10)

    assert (new.status, late.status) == (402, 402)
    assert running == 10  # no more than it needs now


def test_a_grace_begins_with_whoever_meets_the_limit_first(ledger: Ledger) -> None:
    ledger.limit(spend_per_day_wei=Wei(100), grace_seconds=60)
    ledger.ask(needed=100)
    ledger.paid("s1", 100)

    assert ledger.ask("s1", 2, needed=10) == 10
    ledger.pass_time(seconds=59)
    assert ledger.ask("s1", 3, needed=10) == 10
    ledger.pass_time(seconds=1)
    assert ledger.refusal("s1", 4, needed=10).status == 402


def test_each_limit_is_warned_of_once_a_window(ledger: Ledger) -> None:
    ledger.limit(spend_per_day_wei=Wei(100))
    told = []
    ledger.ask(needed=100)

    for _ in range(10):
        ledger.paid("s1", 10)
        told.append(ledger.budget.warned.get("spend_per_day_wei", [0, 0])[1])

    assert told == [0, 0, 0, 0, 50, 50, 50, 80, 80, 100]


def test_a_higher_limit_is_warned_of_anew_only_when_it_was_clearly_left(ledger: Ledger) -> None:
    ledger.limit(spend_limit_wei=Wei(100))
    ledger.ask(needed=100)
    ledger.paid("s1", 80)

    ledger.limit(spend_limit_wei=Wei(105))  # 76 %: not clearly
    ledger.paid("s1", 1)
    still = ledger.budget.warned["spend_limit_wei"][1]
    events = len([name for name in _warnings(ledger) if name == 80])
    ledger.limit(spend_limit_wei=Wei(150))  # 54 %
    ledger.paid("s1", 1)

    assert (still, events) == (80, 1)
    assert _warnings(ledger) == [80, 50]


def _warnings(ledger: Ledger) -> list[int]:
    stored = ledger.quota.events.get(ledger.budget.id)
    return [each.percent for each in stored if isinstance(each, Budget.LimitNeared)]


def test_reaching_a_limit_is_told_once_a_window(ledger: Ledger) -> None:
    ledger.limit(spend_per_hour_wei=Wei(100))
    ledger.ask(needed=100)
    ledger.paid("s1", 100)

    for _ in range(3):
        ledger.refusal("s2", needed=1)
    ledger.pass_time(hours=1)
    for _ in range(3):
        ledger.refusal("s3", needed=101)

    reached = [
        event for event in ledger.quota.events.get(ledger.budget.id) if "LimitReached" in repr(type(event))
    ]
    assert len(reached) == 2


def grant(ledger: Ledger, name: str, amount: int, **more: Any) -> None:
    credit = CreditGrant(name, GrantKind.PREPAID, MicroUsd(amount), **more)
    ledger.limiting.grant_credit("account-1", credit, AUTHOR, ledger.now)


def left(ledger: Ledger) -> dict[str, int]:
    return {
        row.grant_id: row.left_micro_usd for row in ledger.limiting.credit("account-1", ledger.now).grants
    }


def test_prepaid_credit_is_all_that_may_be_spent(ledger: Ledger) -> None:
    know_rate(ledger)
    ledger.limit(credit_limit_micro_usd=MicroUsd(0))
    nothing = ledger.refusal(needed=1)

    grant(ledger, "g1", 300)
    first = ledger.ask(needed=200, wanted=900)
    ledger.paid("s1", 300)

    assert (nothing.status, nothing.reason) == (402, "credit_exhausted")
    assert first == 300
    assert ledger.refusal("s2", needed=1).reason == "credit_exhausted"


def test_credit_is_drawn_in_order_and_the_rest_is_owed(ledger: Ledger) -> None:
    know_rate(ledger)
    ledger.limit(credit_limit_micro_usd=MicroUsd(500))
    soon = int((NOW + timedelta(days=1)).timestamp())
    grant(ledger, "late", 100)
    grant(ledger, "soon", 100, expires=soon)
    grant(ledger, "first", 100, priority=1)

    ledger.ask(needed=350)
    ledger.paid("s1", 150)
    after_one = {
        row.grant_id: row.left_micro_usd for row in ledger.limiting.credit("account-1", ledger.now).grants
    }
    ledger.paid("s1", 200)
    view = ledger.limiting.credit("account-1", ledger.now)

    assert after_one == {"late": 100, "soon": 50, "first": 0}
    assert set(left(ledger).values()) == {0}
    assert (view.prepaid_micro_usd, view.owed_micro_usd) == (0, 50)
    assert rows(ledger)["credit_limit_micro_usd"] == (500, 50, 0, 450)


def test_credit_that_expires_is_not_there_any_more(ledger: Ledger) -> None:
    know_rate(ledger)
    ledger.limit(credit_limit_micro_usd=MicroUsd(0))
    grant(ledger, "g1", 300, expires=int((NOW + timedelta(hours=1)).timestamp()))
    ledger.ask(needed=100)

    ends = ledger.budget.sessions["s1"]["ends"]
    ledger.pass_time(hours=1)

    assert ends == (NOW + timedelta(hours=1)).timestamp()
    assert ledger.refusal("s2", needed=1).reason == "credit_exhausted"


def test_a_grant_of_credit_counts_once_by_its_id(ledger: Ledger) -> None:
    grant(ledger, "g1", 300)
    grant(ledger, "g1", 300)

    assert ledger.limiting.credit("account-1", ledger.now).prepaid_micro_usd == 300
    with pytest.raises(CreditGrantIdTaken):
        grant(ledger, "g1", 301)


def test_the_most_an_account_can_cost_us_is_what_it_may_owe(ledger: Ledger) -> None:
    ledger.limit(credit_limit_micro_usd=MicroUsd(500))

    assert ledger.limiting.view(ACCOUNT, ledger.now).most_micro_usd == 500


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
