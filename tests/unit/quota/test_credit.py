"""Limits in dollars and prepaid credit: what may be spent, in which order, and what is owed."""

from datetime import timedelta
from typing import Any

import pytest

from services.quota.domain.credit import CreditGrant, CreditGrantIdTaken, GrantKind
from services.quota.domain.limit_set import Scope
from shared.money import MicroUsd
from tests.unit.quota.ledger import AUTHOR, NOW, Ledger
from tests.unit.quota.limited import know_rate, rows

ACCOUNT = Scope("account-1")


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def test_a_view_says_the_rate_that_dollars_are_counted_with(ledger: Ledger) -> None:
    before = ledger.limiting.view(ACCOUNT, ledger.now).micro_usd_per_eth
    know_rate(ledger, 3_001_000_007)

    assert before is None
    assert ledger.limiting.view(ACCOUNT, ledger.now).micro_usd_per_eth == 3_001_000_007


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
