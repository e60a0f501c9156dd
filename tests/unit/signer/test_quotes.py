"""What an orchestrator quotes is looked at before anything is signed, and so is the chain."""

from typing import Any

import pytest

from services.signer.rules import Limits
from shared.money import Wei
from tests.quotes import L1_BLOCK, PREVIOUS_HASH, ROUND, QuoteMaker, body, chain_view
from tests.unit.signer.client import START, Signer

WIRE_ERROR = 400
BAD: list[tuple[dict[str, Any], str]] = [
    ({"recipient": bytes(19)}, "ticketParams recipient"),
    ({"address": bytes(21)}, "address"),
    ({"recipient_rand_hash": bytes(31)}, "recipientRandHash"),
    ({"creation_round_hash": bytes(33)}, "creationRoundBlockHash"),
    ({"creation_round": 0}, "expirationParams"),
    ({"expiration_block": 0}, "expiration block is 0"),
    ({"expiration_block": L1_BLOCK + 51}, "too far ahead"),
    ({"price_per_unit": 0}, "missing or zero priceInfo"),
    ({"price_per_unit": -1}, "negative priceInfo"),
    ({"pixels_per_unit": -1}, "negative priceInfo"),
    ({"ev": 0}, "winProb must be positive"),
    ({"ev": 1000}, "ticket faceValue too low"),
    ({"ev": 3_000_000_000_001, "face_value": 10**16}, "max ticket EV"),
    ({"face_value": 10**18 + 1}, "max faceValue"),
    ({"face_value": 2**256, "ev": 1}, "longer than 32 bytes"),
    ({"price_per_unit": 10_000}, "numTickets 1000 exceeds maximum of 100"),
]


@pytest.mark.parametrize(("changes", "text"), BAD)
def test_a_bad_quote_is_refused_by_name_and_stores_nothing(
    signer: Signer, changes: dict[str, Any], text: str
) -> None:
    refusal = signer.refused(body(QuoteMaker(START, **changes).text()))

    assert refusal.status == WIRE_ERROR
    assert text in str(refusal)
    assert signer.stored() == 0


REFRESH: list[dict[str, Any]] = [
    {"expiration_block": L1_BLOCK + 1},
    {"auth_seconds": 179},
    {"creation_round": ROUND - 2},
    {"creation_round_hash": PREVIOUS_HASH},
    {"creation_round": ROUND + 1},
]


@pytest.mark.parametrize("changes", REFRESH)
def test_params_that_age_are_refreshed(signer: Signer, changes: dict[str, Any]) -> None:
    refusal = signer.refused(body(QuoteMaker(START, **changes).text()))

    assert (refusal.status, refusal.orchestrator_url) == (480, "https://orchestrator.test:8935")
    assert str(refusal) == "refresh session for remote signer"


def test_params_of_the_previous_round_are_signed(signer: Signer) -> None:
    quote = QuoteMaker(START, creation_round=ROUND - 1, creation_round_hash=PREVIOUS_HASH)

    assert signer.pay(body(quote.text()))


def test_other_params_under_a_known_hash_are_refused(signer: Signer, quote: QuoteMaker) -> None:
    signer.pay(body(quote.text()))
    quote.face_value *= 2

    refusal = signer.refused(body(quote.text(), manifest_id="other"))

    assert "recipientRandHash" in str(refusal)


@pytest.mark.parametrize(
    ("changes", "refusal_text"),
    [
        ({"reserve": Wei(0)}, "no sender reserve"),
        ({"deposit": Wei(0)}, "no sender deposit"),
        ({"withdraw_round": ROUND + 1}, "set to unlock soon"),
    ],
)
def test_without_funds_nothing_is_signed(
    signer: Signer, quote: QuoteMaker, changes: dict[str, Any], refusal_text: str
) -> None:
    signer.chain = chain_view(START, **changes)

    assert refusal_text in str(signer.refused(body(quote.text())))


def test_without_a_view_of_the_chain_the_answer_is_503(signer: Signer, quote: QuoteMaker) -> None:
    signer.chain = None

    assert signer.refused(body(quote.text())).status == 503


def test_only_listed_recipients_are_paid(quote: QuoteMaker) -> None:
    signer = Signer(Limits(recipients=frozenset({bytes(20)})))

    assert signer.refused(body(quote.text())).status == 403
