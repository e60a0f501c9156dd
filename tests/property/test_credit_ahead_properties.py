"""However a session pays, being paid ahead only moves its tickets: it costs no more than what is ahead."""

import json
from datetime import timedelta
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from services.signer.domain.session import PaymentSession
from services.signer.refusal import PaymentRefusal
from services.signer.rules import Limits
from shared.money import Wei, expected_value
from tests.quotes import QuoteMaker, body
from tests.unit.signer.client import START, Signer, state_of

GRANT = Wei(10**30)


class Session:
    """One session of a signer, which always gets the allowance it asks for."""

    def __init__(self, price: int, ev: int, ahead_seconds: int) -> None:
        most = Wei(10**30)
        ahead = timedelta(seconds=ahead_seconds)
        self.signer = Signer(Limits(max_ticket_ev=most, max_total_ev=most, credit_ahead=ahead))
        self.quote = QuoteMaker(START, price_per_unit=price, ev=ev, face_value=ev * 50)
        self.reply = self.signer.pay(body(self.quote.text()), grant=GRANT)

    def pay(self, after_seconds: int) -> None:
        self.signer.wait(after_seconds)
        self.quote.now = self.signer.now
        answer = self.signer.ask(body(self.quote.text(), state=self.reply["state"]), grant=GRANT)
        if isinstance(answer, PaymentRefusal):
            assert answer.status == 482  # nothing is due
        else:
            assert isinstance(answer, str)
            self.reply = json.loads(answer)

    def stored(self) -> PaymentSession:
        return self.signer.signing.session("account-1", state_of(self.reply)["StateID"])


def paid(session: Session, *, price: int) -> tuple[Fraction, Fraction]:
    """What all its tickets are worth, and what is left of that for the time after its last payment."""
    stored = session.stored()
    worth = expected_value(Wei(stored.face_value), stored.win_prob)
    unbilled = (session.signer.now - stored.last_at) // timedelta(seconds=1)
    return worth * stored.tickets, stored.balance_wei - unbilled * price


@settings(max_examples=60, deadline=None)
@given(
    price=st.integers(min_value=1, max_value=10**9),
    seconds_a_ticket=st.integers(min_value=1, max_value=40),
    ahead=st.integers(min_value=1, max_value=60),
    # Whole seconds: each payment rounds its own up, and the two need not pay at the same times.
    gaps=st.lists(st.integers(min_value=0, max_value=20), min_size=1, max_size=10),
)
def test_a_session_is_ahead_after_each_payment_and_costs_no_more_than_that_and_a_ticket(
    price: int, seconds_a_ticket: int, ahead: int, gaps: list[int]
) -> None:
    ev = price * seconds_a_ticket
    plain, early = Session(price, ev, 0), Session(price, ev, ahead)
    for seconds in gaps:
        plain.pay(seconds)
        early.pay(seconds)
        _, left = paid(early, price=price)
        assert left >= ahead * price

    worth = expected_value(Wei(early.quote.face_value), early.stored().win_prob)
    [plainly, _], [early_on, _] = paid(plain, price=price), paid(early, price=price)
    assert plainly - worth <= early_on <= plainly + ahead * price + worth
