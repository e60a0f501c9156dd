"""Whatever a client does, money adds up: nonces are 1..n, balances exact, replay is the live state."""

import json
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.livepeer.payments_pb2 import Payment
from services.signer.application import Signing
from services.signer.deciding import AllowanceNeeded, Grant
from services.signer.domain.session import PaymentSession
from services.signer.intent import PaymentRequest
from services.signer.keys import LocalKey
from services.signer.payer import Payer
from services.signer.rules import Limits, tickets_due
from services.signer.state import StateSeal
from shared.money import CERTAIN, Wei, batch_cost, expected_value
from tests.quotes import QuoteMaker, body, chain_view

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = LocalKey(b"\x11" * 32)

wei = st.integers(min_value=1, max_value=10**20)
win_probs = st.integers(min_value=1, max_value=CERTAIN)
# What a client does next: pay, send the same again, forget the last reply, or come with an old state.
steps = st.lists(
    st.tuples(
        st.sampled_from(["pay", "repeat", "lose", "old", "new quote"]),
        st.integers(min_value=0, max_value=90_000),  # ms since the step before
    ),
    min_size=1,
    max_size=12,
)


@given(face_value=wei, win_prob=win_probs, tickets=st.integers(min_value=1, max_value=100))
def test_a_batch_costs_the_least_whole_wei_that_covers_it(
    face_value: int, win_prob: int, tickets: int
) -> None:
    exact = expected_value(Wei(face_value), win_prob) * tickets

    cost = batch_cost(Wei(face_value), win_prob, tickets)

    assert 0 <= cost - exact < 1


@given(
    balance=st.integers(min_value=-(10**30), max_value=10**30),
    fee=st.integers(min_value=0, max_value=10**24),
    ev=st.integers(min_value=1, max_value=10**24),
)
def test_tickets_bring_the_balance_just_to_where_it_must_be(balance: int, fee: int, ev: int) -> None:
    tickets = tickets_due(balance=balance, fee=fee, ev=ev, may_spare=False)

    assert balance + tickets * ev >= max(fee, ev)
    assert tickets == 0 or balance + (tickets - 1) * ev < max(fee, ev)


class Client:
    """Plays steps against a signer and keeps what it was given."""

    def __init__(self, price: int, ev: int) -> None:
        self.now = START
        payer = Payer(KEY, lambda: chain_view(START))
        self.signing = Signing([payer], StateSeal([b"k" * 32]), Limits())
        self.quote = QuoteMaker(START, price_per_unit=price, ev=ev, face_value=ev * 50)
        self.states: list[dict[str, str]] = []
        self.nonces: dict[bytes, list[int]] = {}
        self.last = ""

    def play(self, step: str, milliseconds: int) -> None:
        self.now += timedelta(milliseconds=milliseconds)
        if step == "new quote":
            self.quote = QuoteMaker(
                START,
                price_per_unit=self.quote.price_per_unit,
                ev=self.quote.ev,
                face_value=self.quote.face_value,
            )
        text = self._text(step)
        request = PaymentRequest("account-1", "key-1", None, None, text)
        [outcome] = self.signing.sign_all([request], self.now)
        if isinstance(outcome, AllowanceNeeded):
            grant = Grant(outcome.number, outcome.wanted)
            [outcome] = self.signing.sign_all([request], self.now, {0: grant})
        if isinstance(outcome, str):
            if outcome != self.last:
                self._keep(outcome)
            self.last, self.sent = outcome, text

    def _text(self, step: str) -> str:
        if not self.states:
            return body(self.quote.text())
        if step == "repeat":
            return self.sent
        behind = {"lose": 2, "old": len(self.states)}.get(step, 1)
        state = self.states[-min(behind, len(self.states))]
        return body(self.quote.text(), state=state) + " " * len(self.states)

    def _keep(self, outcome: str) -> None:
        reply = json.loads(outcome)
        self.states.append(reply["state"])
        payment = Payment.FromString(b64decode(reply["payment"]))
        given = self.nonces.setdefault(payment.ticket_params.recipient_rand_hash, [])
        given += [ticket.sender_nonce for ticket in payment.ticket_sender_params]

    def session(self) -> PaymentSession:
        fields = json.loads(b64decode(self.states[-1]["State"]))
        return self.signing.session("account-1", fields["StateID"])


@settings(max_examples=60, deadline=None)
@given(
    price=st.integers(min_value=1, max_value=10**9),
    ev=st.integers(min_value=2, max_value=10**9),
    played=steps,
)
def test_nonces_run_from_one_and_replay_is_the_live_state(
    price: int, ev: int, played: list[tuple[str, int]]
) -> None:
    client = Client(price, max(ev, price))  # at most ten tickets and a few per step
    for step, milliseconds in [("pay", 0), *played]:
        client.play(step, milliseconds)

    for given_nonces in client.nonces.values():
        assert given_nonces == list(range(1, len(given_nonces) + 1))
    live = client.session()
    client.signing.forget(live.id)
    replayed: PaymentSession = client.signing.repository.get(live.id)
    assert vars(replayed) == vars(live)
    assert live.spent <= live.granted
    assert live.tickets == sum(len(given_nonces) for given_nonces in client.nonces.values())


@settings(max_examples=60, deadline=None)
@given(
    price=st.integers(min_value=1, max_value=10**9),
    pixels=st.integers(min_value=1, max_value=10**6),
    gaps=st.lists(st.integers(min_value=0, max_value=20_000), min_size=1, max_size=8),
)
def test_the_balance_is_what_was_credited_less_what_was_used(
    price: int, pixels: int, gaps: list[int]
) -> None:
    client = Client(price, price)
    client.quote.pixels_per_unit = pixels
    for milliseconds in [0, *gaps]:
        client.play("pay", milliseconds)

    session = client.session()
    events = list(client.signing.events.get(session.id))
    signed = [stored for stored in events if isinstance(stored, PaymentSession.PaymentSigned)]
    worth = expected_value(Wei(client.quote.face_value), client.quote.win_prob)
    credited = sum((worth * stored.tickets for stored in signed), Fraction(0))
    used = sum((Fraction(stored.units * price, pixels) for stored in signed), Fraction(0))
    assert session.balance_wei == credited - used
    assert session.balance_wei >= 0
    assert session.spent == sum(stored.cost for stored in signed)
