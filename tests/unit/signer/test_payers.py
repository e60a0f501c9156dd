"""Several payers: each credential's payments are signed with its own payer's key, all its life."""

import pytest

from contracts.livepeer.payments_pb2 import Payment
from services.signer.application import PayerUnknown
from tests.quotes import QuoteMaker, body
from tests.unit.signer.client import KEYS, Signer, nonces, payment_of

FIRST, SECOND = ("0x" + key.address.hex() for key in KEYS)


@pytest.fixture
def signer() -> Signer:
    return Signer(keys=KEYS)


def sender(payment: Payment) -> str:
    return "0x" + payment.sender.hex()


def test_each_payer_signs_its_own_and_counts_its_own_nonces(signer: Signer, quote: QuoteMaker) -> None:
    first = signer.pay(body(quote.text()), payer=FIRST)
    second = signer.pay(body(quote.text(), manifest_id="other"), payer=SECOND)

    assert [sender(payment_of(reply)) for reply in (first, second)] == [FIRST, SECOND]
    assert (nonces(first), nonces(second)) == ([1], [1])


def test_who_names_no_payer_gets_the_first(signer: Signer, quote: QuoteMaker) -> None:
    assert sender(payment_of(signer.pay(body(quote.text())))) == FIRST
    assert signer.signing.signed_address(None) == signer.signing.signed_address(FIRST)
    assert signer.signing.signed_address(SECOND) != signer.signing.signed_address(FIRST)


def test_the_ask_names_the_payer_whose_pool_it_is(signer: Signer, quote: QuoteMaker) -> None:
    wish = signer.ask(body(quote.text()), payer=SECOND, grant=None)

    assert getattr(wish, "payer", None) == SECOND


def test_a_session_does_not_change_its_payer(signer: Signer, quote: QuoteMaker) -> None:
    reply = signer.pay(body(quote.text()), payer=FIRST)
    signer.wait(10)

    refusal = signer.refused(body(quote.text(), state=reply["state"]), payer=SECOND)

    assert (refusal.status, str(refusal)) == (400, "payer mismatch")
    assert signer.pay(body(quote.text(), state=reply["state"]), payer=FIRST)


def test_a_payer_whose_key_is_elsewhere_is_503(signer: Signer, quote: QuoteMaker) -> None:
    stranger = "0x" + "ab" * 20

    refusal = signer.refused(body(quote.text()), payer=stranger)

    assert (refusal.status, refusal.reason) == (503, "payer_unknown")
    with pytest.raises(PayerUnknown):
        signer.signing.signed_address(stranger)
