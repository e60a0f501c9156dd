"""Estimates of another signer's payments, and what the payments' own events make of them."""

from collections.abc import Sequence
from datetime import timedelta
from fractions import Fraction

import pytest
from pydantic import ValidationError

from services.quota.domain import credit
from services.quota.domain.credit import CreditGrant, GrantKind
from services.quota.domain.foreign import ESTIMATES_KEPT, ForeignSession, Paid, Told
from services.quota.domain.limit_set import Scope
from services.quota.domain.limits import Limits
from services.quota.domain.spending import WORTH, Rate, spent_in
from services.quota.domain.sub_budget import SubBudget
from shared.money import MicroUsd, Wei
from tests.unit.quota.installation import AUTHOR, KEY_ID, USD_PER_ETH, Installation
from tests.unit.quota.ledger import NOW


def test_what_a_payment_cost_takes_the_place_of_its_estimate() -> None:
    house = Installation()
    house.ask(0, "70")
    house.ask(1, "90")  # tickets brought 50

    house.tell((0, 30))

    assert house.stand == (50, 30)


def test_estimates_that_nobody_corrects_stay_held_until_the_session_is_idle() -> None:
    house = Installation()
    for number, balance in enumerate(("70", "90", "100")):
        house.ask(number, balance)

    house.tell((2, 30))
    held = house.stand
    house.settle()

    assert held == (150, 30)
    assert house.stand == (0, 180)


def test_an_event_that_comes_after_its_estimate_counted_adjusts_what_is_spent() -> None:
    house = Installation(spend_per_hour_wei=5_000)
    house.ask(0, "70")
    house.settle()
    before = (house.stand, house.ann.spending["all"][0])

    house.tell((0, 30))

    assert before == ((0, 100), 100)
    assert house.stand == (0, 30)
    assert house.ann.spending["all"][0] == 30
    assert spent_in(house.budget.spending, "hour", NOW)[0] == 30


def test_an_hour_that_is_over_is_left_as_it_was() -> None:
    house = Installation()
    house.ask(0, "70")
    house.settle()
    house.now += timedelta(hours=1)
    house.ask(0, "70", state="t")
    house.settle("t")

    house.tell((0, 30), at=NOW)

    assert spent_in(house.budget.spending, "hour", house.now)[0] == 100
    assert spent_in(house.budget.spending, "day", house.now)[0] == 130
    assert house.budget.spent == 130


def test_a_payment_that_nobody_asked_for_counts_when_it_is_heard_of() -> None:
    house = Installation(limit=100)

    house.tell((0, 90))

    assert house.stand == (0, 90)
    assert house.ask(0, "70", state="t")[0] == 483


def test_limits_of_a_user_hold_for_payments_nobody_asked_for() -> None:
    house = Installation(spend_per_hour_wei=100)

    house.tell((0, 90))

    assert house.ann.spending["all"][0] == 90
    assert house.ask(0, "70", state="t")[0] == 483


def test_the_same_place_of_a_session_paid_twice_counts_twice() -> None:
    """Who shows a signer the same state again gets tickets again."""
    house = Installation()
    house.ask(0, "70")

    house.tell((0, 30), (0, 31))
    house.tell((0, 32))

    assert house.stand == (0, 93)


def test_an_estimate_that_counted_is_taken_back_once() -> None:
    house = Installation()
    house.ask(0, "70")
    house.settle()

    house.tell((0, 30), (0, 31))

    assert house.stand == (0, 61)


def test_budgets_that_counted_the_estimate_are_those_that_are_corrected() -> None:
    house = Installation()
    key = Scope("acme", key_id=KEY_ID)
    house.limiting.set_limits(key, Limits(spend_per_hour_wei=Wei(500)), AUTHOR, NOW)
    house.ask(0, "70")
    house.settle()

    house.tell((0, 30))

    found: SubBudget = house.quota.repository.get(SubBudget.create_id(*key.ids))
    assert found.spending["all"][0] == 30


def test_a_session_that_is_corrected_goes_on() -> None:
    house = Installation(sessions_max=1)
    house.ask(0, "70")
    house.tell((0, 30))

    another = house.ask(0, "70", state="t")[0]
    further = house.ask(1, "90")

    assert another == 429  # it has its place until it is idle
    assert further == (200, 50)
    assert house.stand == (50, 30)
    assert house.ann.held == 50


def test_a_repeat_at_the_webhook_holds_nothing_again() -> None:
    house = Installation()
    house.ask(0, "70")
    house.tell((0, 30))

    assert house.ask(0, "70") == (200, 0)
    assert house.stand == (0, 30)


@pytest.mark.parametrize("fee", [30, 130])
def test_prepaid_credit_is_drawn_by_what_it_cost(fee: int) -> None:
    house = Installation()
    house.quota.observe_rate(USD_PER_ETH)
    house.limiting.grant_credit("acme", CreditGrant("g", GrantKind.PREPAID, MicroUsd(1)), AUTHOR, NOW)
    house.ask(0, "70")
    house.settle()

    house.tell((0, fee))

    rate = int(USD_PER_ETH.micro_usd_per_eth)
    assert credit.prepaid(house.budget.credit, NOW) == WORTH - fee * rate
    assert credit.owed(house.budget.credit) == 0
    house.tell((0, 100))
    assert credit.prepaid(house.budget.credit, NOW) == WORTH - (fee + 100) * rate


def test_the_rate_of_then_holds_for_what_had_counted() -> None:
    house = Installation()
    house.quota.observe_rate(USD_PER_ETH)
    house.ask(0, "70")
    house.settle()
    house.quota.observe_rate(Rate(MicroUsd(1), "test", NOW + timedelta(seconds=1)))

    house.tell((0, 30))

    assert house.budget.spending["all"] == [30, 30 * USD_PER_ETH.micro_usd_per_eth]


def test_what_cannot_be_read_is_not_applied() -> None:
    house = Installation()
    house.ask(0, "70")

    with pytest.raises(ValidationError):
        house.hear({"account_id": "acme", "payments": [{"sequence": 0}]})

    assert house.stand == (100, 0)


class TestForeignSession:
    def told(self, session: ForeignSession, sequences: Sequence[int]) -> None:
        for number in sequences:
            told = Told(number, session_balance(number), session_balance(0), "live", number)
            session.tell(told, Wei(7), NOW)

    def test_estimates_of_long_ago_stay_what_they_are(self) -> None:
        session = ForeignSession("acme", "s", timestamp=NOW)
        self.told(session, range(ESTIMATES_KEPT + 2))

        forgotten = session.correct([Paid(1, Wei(5), NOW, None)], NOW)
        [kept] = session.correct([Paid(2, Wei(5), NOW, None)], NOW)

        assert forgotten == []
        assert (kept.freed, kept.spent) == ({"3": 7}, 5)

    def test_payments_of_one_quarter_of_an_hour_are_one_correction(self) -> None:
        session = ForeignSession("acme", "s", timestamp=NOW)
        later = NOW + timedelta(minutes=15)
        paid = [Paid(0, Wei(1), NOW, None), Paid(1, Wei(2), later, None), Paid(2, Wei(4), NOW, None)]

        found = session.correct(paid, NOW)

        assert [(each.at, each.spent) for each in found] == [(NOW, 5), (later, 2)]


def session_balance(number: int) -> Fraction:
    return Fraction(number)
