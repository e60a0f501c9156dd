"""What a running session is paid ahead (design §4.7): how much, for whom, and within which bounds."""

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from contracts.quota import AllowanceAnswers, AllowanceRefusedAnswer, GrantAllowances
from contracts.signer import (
    GeneratePayment,
    GeneratePayments,
    PaymentAnswers,
    PaymentRefusedAnswer,
    PaymentSignedAnswer,
)
from services.signer.deciding import AllowanceNeeded
from services.signer.handlers import Payments
from services.signer.rules import Limits, tickets_ahead
from shared.clock import SetClock
from shared.money import Wei
from tests.quotes import QuoteMaker, body
from tests.unit.signer.client import START, Signer, nonces

PRICE = 100  # wei a second
EV = 200  # a ticket is worth two seconds, and a trifle as odds are not that exact
AHEAD_SECONDS = 30
LIMITS = Limits(credit_ahead=timedelta(seconds=AHEAD_SECONDS))


@pytest.fixture
def quote() -> QuoteMaker:
    return QuoteMaker(START, price_per_unit=PRICE, ev=EV, face_value=EV * 50)


def cost(tickets: int) -> Wei:
    return Wei(tickets * EV + 1)


def first_and_then(signer: Signer, quote: QuoteMaker, *, seconds: float = 3, **how: Any) -> list[int]:
    """How many tickets the first payment has and the one some seconds later."""
    first = signer.pay(body(quote.text(), **how))
    signer.wait(seconds)
    then = signer.pay(body(quote.text(), state=first["state"], **how))
    return [len(nonces(first)), len(nonces(then))]


def test_a_running_session_is_paid_for_what_it_used_and_for_the_seconds_ahead(quote: QuoteMaker) -> None:
    # 10 s are 5 tickets, all used up; 3 s and 30 s more are 3,300 wei, so 17 tickets.
    assert first_and_then(Signer(LIMITS), quote) == [5, 17]


def test_without_the_setting_nothing_is_paid_ahead(quote: QuoteMaker) -> None:
    assert first_and_then(Signer(), quote) == [5, 2]


def test_once_ahead_a_session_is_paid_for_what_it_uses(quote: QuoteMaker) -> None:
    signer = Signer(LIMITS)
    reply = signer.pay(body(quote.text()))
    tickets = []
    for _ in range(5):
        signer.wait(4)
        reply = signer.pay(body(quote.text(), state=reply["state"]))
        tickets.append(len(nonces(reply)))

    assert tickets == [17, 2, 2, 2, 2]


def test_pixels_are_paid_ahead_by_the_second_too() -> None:
    pixels = 1280 * 720 * 30
    quote = QuoteMaker(START, price_per_unit=1, ev=pixels, face_value=pixels * 50)

    assert first_and_then(Signer(LIMITS), quote, type="lv2v", seconds=1) == [60, 31]


def test_calls_and_pixels_by_count_are_never_paid_ahead(quote: QuoteMaker) -> None:
    assert first_and_then(Signer(LIMITS), quote, type="fixed") == first_and_then(
        Signer(), quote, type="fixed"
    )
    by_count: dict[str, Any] = {"type": "", "inPixels": 7}
    assert first_and_then(Signer(LIMITS), quote, **by_count) == first_and_then(Signer(), quote, **by_count)


def test_no_more_than_a_hundred_tickets_are_signed_at_once() -> None:
    quote = QuoteMaker(START, price_per_unit=PRICE, ev=20, face_value=1000)

    assert first_and_then(Signer(LIMITS), quote) == [50, 100]


def test_no_more_is_signed_ahead_than_the_cap_on_a_batch_allows(quote: QuoteMaker) -> None:
    capped = replace(LIMITS, max_total_ev=cost(7))

    assert first_and_then(Signer(capped), quote) == [5, 7]


@pytest.mark.parametrize(("granted", "tickets"), [(cost(2), 2), (cost(5), 5), (cost(100), 17)])
def test_no_more_is_signed_ahead_than_the_allowance_has_room_for(
    quote: QuoteMaker, granted: Wei, tickets: int
) -> None:
    signer = Signer(LIMITS)
    first = signer.pay(body(quote.text()), grant=cost(5))
    signer.wait(3)
    then = signer.pay(body(quote.text(), state=first["state"]), grant=granted)

    assert len(nonces(then)) == tickets


def test_quota_is_asked_for_what_is_due_and_wished_for_what_is_ahead(quote: QuoteMaker) -> None:
    signer = Signer(LIMITS)
    first = signer.pay(body(quote.text()), grant=cost(5))
    signer.wait(3)

    asked = signer.ask(body(quote.text(), state=first["state"]), grant=None)

    assert isinstance(asked, AllowanceNeeded)
    assert (asked.needed, asked.optional) == (cost(2), False)
    assert asked.wanted >= 17 * EV


def test_what_is_only_ahead_may_be_declined(quote: QuoteMaker) -> None:
    signer = Signer(LIMITS)
    first = signer.pay(body(quote.text()), grant=cost(5))
    signer.wait(3)
    then = signer.pay(body(quote.text(), state=first["state"]), grant=cost(17))
    signer.wait(3)

    asked = signer.ask(body(quote.text(), state=then["state"]), grant=None)

    assert isinstance(asked, AllowanceNeeded)
    assert (asked.needed, asked.optional) == (cost(1), True)


def test_an_allowance_that_covers_what_is_due_is_not_asked_for_more(quote: QuoteMaker) -> None:
    signer = Signer(LIMITS)
    first = signer.pay(body(quote.text()), grant=cost(8))
    signer.wait(3)

    then = signer.ask(body(quote.text(), state=first["state"]), grant=None)

    assert isinstance(then, str)


def test_tickets_ahead_leave_just_what_covers_the_fee_ahead() -> None:
    assert tickets_ahead(balance=0, fee=300, fee_ahead=3000, ev=200) == 17
    assert tickets_ahead(balance=-100, fee=300, fee_ahead=3000, ev=200) == 17
    assert tickets_ahead(balance=3300, fee=300, fee_ahead=3000, ev=200) == 0
    assert tickets_ahead(balance=3299, fee=300, fee_ahead=3000, ev=200) == 1


class NoQuota:
    """A bus on which every ask for an allowance is refused; it keeps what was answered."""

    def __init__(self) -> None:
        self.answered: list[PaymentRefusedAnswer | PaymentSignedAnswer] = []

    async def request(self, _subject: str, payload: bytes, **_: Any) -> SimpleNamespace:
        asked = GrantAllowances.model_validate_json(payload)
        no = AllowanceRefusedAnswer(status=402, reason="limit_reached", message="the limit is reached")
        return SimpleNamespace(data=AllowanceAnswers(answers=[no] * len(asked.asks)).model_dump_json())

    async def publish(self, payload: bytes, _reply_to: str) -> None:
        self.answered += PaymentAnswers.model_validate_json(payload).answers


async def statuses(signer: Signer, text: str) -> list[int]:
    """What a client hears whose account has no more to spend."""
    bus: Any = NoQuota()
    payments = Payments(signer.signing, bus, bus, SetClock(signer.now), quota_timeout_seconds=1)
    request = GeneratePayment(
        account_id="account-1", key_id="key-1", user_id=None, stream_id=None, body=text, request_id="r"
    )
    await payments.answer((GeneratePayments(requests=[request]).model_dump_json().encode(), "inbox"))
    await payments.finish()
    return [answer.status if isinstance(answer, PaymentRefusedAnswer) else 200 for answer in bus.answered]


@pytest.mark.anyio
async def test_a_client_whose_limit_is_reached_is_refused_only_once_something_is_due(
    quote: QuoteMaker,
) -> None:
    signer = Signer(LIMITS)
    first = signer.pay(body(quote.text()), grant=cost(5))
    signer.wait(3)
    then = signer.pay(body(quote.text(), state=first["state"]), grant=cost(17))
    text = body(quote.text(), state=then["state"])

    signer.wait(20)
    early = await statuses(signer, text)
    signer.wait(20)
    late = await statuses(signer, text)

    assert (early, late) == ([482], [402])
