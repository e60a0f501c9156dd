"""Our own vectors, checked by the local orchestrator: it shares no code with the signer."""

from base64 import b64decode
from datetime import datetime
from fractions import Fraction
from typing import Any

import pytest

from contracts.livepeer.payments_pb2 import Payment
from tests import own_vectors
from tilt.orchestrator.addresses import Address
from tilt.orchestrator.auth_tokens import AuthTokens
from tilt.orchestrator.headers import Admission, Presented, read_headers
from tilt.orchestrator.messages import decode_params, decode_price
from tilt.orchestrator.offer import Offer
from tilt.orchestrator.signatures import is_signed_by
from tilt.orchestrator.terms import Price
from tilt.orchestrator.tickets import Ticket, rand_hash, recipient_rand

VECTORS = own_vectors.load()
PAID = [
    pytest.param(step, id=f"{story['name']} {number}")
    for story in VECTORS["stories"]
    for number, step in enumerate(story["steps"])
    if step["answer"]["status"] == 200
]


def test_the_signer_still_answers_as_the_file_says() -> None:
    assert own_vectors.make() == VECTORS


def presented(step: dict[str, Any]) -> Presented:
    admission = Admission(
        tokens=AuthTokens(bytes.fromhex(VECTORS["token_secret"])),
        ours=Offer(base_price=Price(1)).requirements(),
        now=datetime.fromisoformat(step["at"]).timestamp(),
        is_capped=False,
    )
    return read_headers(step["answer"]["payment"], step["answer"]["segCreds"], admission)


@pytest.mark.parametrize("step", PAID)
def test_the_orchestrator_takes_every_ticket(step: dict[str, Any]) -> None:
    shown = presented(step)
    payment, params = shown.payment, decode_params(shown.payment)
    rand = recipient_rand(
        params,
        secret=bytes.fromhex(VECTORS["ticket_secret"]),
        sender=shown.sender,
        price=decode_price(payment),
    )

    assert rand_hash(rand) == params.recipient_rand_hash  # nothing of the params was changed
    assert params.expected_value == own_vectors.expected_value(own_vectors.quoted(step["body"]))
    for signed in payment.ticket_sender_params:
        ticket = Ticket(params, shown.sender, signed.sender_nonce)
        assert is_signed_by(shown.sender, ticket.hash(), signed.sig)
    assert shown.manifest_id in step["body"]


@pytest.mark.parametrize("story", VECTORS["stories"], ids=lambda story: str(story["name"]))
def test_nonces_run_on_and_what_is_paid_covers_what_is_used(story: dict[str, Any]) -> None:
    nonces: list[int] = []
    credit = Fraction(0)
    for step in story["steps"]:
        if step["answer"]["status"] == 200:
            payment = Payment.FromString(b64decode(step["answer"]["payment"]))
            nonces += [signed.sender_nonce for signed in payment.ticket_sender_params]
            worth = own_vectors.expected_value(own_vectors.quoted(step["body"]))
            credit += worth * len(payment.ticket_sender_params)

    assert nonces == list(range(1, len(nonces) + 1))
    assert credit >= _used(story)


def _used(story: dict[str, Any]) -> Fraction:
    """What the orchestrator has debited by the last payment, at most (protocol §5.5)."""
    paid = [step for step in story["steps"] if step["answer"]["status"] == 200]
    if not paid:
        return Fraction(0)
    price = own_vectors.quoted(paid[0]["body"]).price_info
    seconds = (datetime.fromisoformat(paid[-1]["at"]) - datetime.fromisoformat(paid[0]["at"])).total_seconds()
    units = {
        "live": int(seconds),
        "lv2v": int(own_vectors.PIXELS_PER_SECOND * Fraction(seconds)),
        "fixed": len(paid),
    }.get(story["name"], 0)
    return Fraction(units * price.price_per_unit, price.pixels_per_unit)


def test_a_changed_byte_is_noticed() -> None:
    """The checks above can fail."""
    shown = presented(VECTORS["stories"][0]["steps"][0])
    params = decode_params(shown.payment)
    signed = shown.payment.ticket_sender_params[0]

    assert not is_signed_by(shown.sender, Ticket(params, shown.sender, 99).hash(), signed.sig)
    assert not is_signed_by(Address(bytes(20)), Ticket(params, shown.sender, 1).hash(), signed.sig)
