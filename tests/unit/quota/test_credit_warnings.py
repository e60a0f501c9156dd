"""When an account that lives on prepaid credit is warned: before all of it is spent."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from services.quota.domain.credit import CreditGrant, GrantKind
from services.quota.domain.limit_set import Scope
from services.quota.domain.spending import CREDIT, Rate
from shared.money import MicroUsd
from tests.unit.quota.ledger import AUTHOR, NOW, Ledger


@pytest.fixture
def ledger() -> Ledger:
    """A wei is a micro-dollar, and nothing may be owed."""
    ledger = Ledger()
    ledger.quota.observe_rate(Rate(MicroUsd(10**18), "settings", NOW))
    ledger.limit(credit_limit_micro_usd=MicroUsd(0))
    return ledger


def grant(ledger: Ledger, name: str, amount: int, **more: Any) -> None:
    credit = CreditGrant(name, GrantKind.PREPAID, MicroUsd(amount), **more)
    ledger.limiting.grant_credit("account-1", credit, AUTHOR, ledger.now)


def told(ledger: Ledger, *costs: int) -> Iterator[int]:
    """What was warned of last, after each payment."""
    for cost in costs:
        ledger.paid("s1", cost)
        yield ledger.budget.warned.get(CREDIT, [0, 0])[1]


def test_prepaid_credit_warns_at_50_80_and_100_percent_of_what_was_granted(ledger: Ledger) -> None:
    grant(ledger, "g1", 101)
    ledger.ask(needed=101)

    assert list(told(ledger, 50, 1, 29, 1, 19, 1)) == [0, 50, 50, 80, 80, 100]


def test_all_grants_that_have_something_left_count(ledger: Ledger) -> None:
    grant(ledger, "g1", 100)
    grant(ledger, "g2", 300)
    ledger.ask(needed=400)

    # 99 of 400; then 100 of 300, 150, 240 and all of it: the first grant is history once it is used up.
    assert list(told(ledger, 99, 101, 49, 1, 90, 60)) == [0, 0, 0, 50, 80, 100]


def test_what_may_be_owed_counts_beside_what_was_granted(ledger: Ledger) -> None:
    ledger.limit(credit_limit_micro_usd=MicroUsd(100))
    grant(ledger, "g1", 100)
    ledger.ask(needed=200)

    assert list(told(ledger, 99, 1, 49, 1, 30, 20)) == [0, 0, 0, 50, 80, 100]


def test_new_credit_is_warned_of_anew(ledger: Ledger) -> None:
    grant(ledger, "g1", 100)
    ledger.ask(needed=100)
    used_up = list(told(ledger, 80, 20))

    grant(ledger, "g2", 200)
    ledger.ask("s1", 2, needed=200)

    assert used_up == [80, 100]
    assert list(told(ledger, 99, 1, 60)) == [100, 50, 80]


def test_what_expired_is_no_credit_any_more(ledger: Ledger) -> None:
    grant(ledger, "g1", 1000, expires=int((NOW + timedelta(hours=1)).timestamp()), priority=200)
    grant(ledger, "g2", 100)
    ledger.ask(needed=100)
    before = list(told(ledger, 60))

    ledger.pass_time(hours=1)

    assert before == [0]  # 60 of 1100
    assert list(told(ledger, 1)) == [50]  # 61 of 100


def test_what_refuses_and_what_is_shown_is_as_before(ledger: Ledger) -> None:
    grant(ledger, "g1", 100)
    ledger.ask(needed=100)
    list(told(ledger, 60))

    [row] = [row for row in ledger.limiting.view(Scope("account-1"), ledger.now).rows if row.name == CREDIT]

    assert (row.limit, row.used, row.held, row.remaining) == (40, 0, 40, 0)
