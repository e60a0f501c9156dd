"""A client whose state the log has lost: refused behind the fence, then it goes on from that state."""

import json
from base64 import b64encode
from datetime import datetime, timedelta
from typing import Any

import pytest

from services.signer.deciding import AllowanceNeeded
from services.signer.domain.fence import Fence
from services.signer.domain.session import ASKS_LEFT_OUT
from services.signer.state import StateSeal, go_time
from tests.quotes import L1_BLOCK, QuoteMaker, body
from tests.unit.signer.client import START, Signer, sequence_of, state_of

AHEAD = 7


@pytest.fixture
def newer() -> QuoteMaker:
    """A quote that expires after the fence of these tests."""
    return QuoteMaker(START, expiration_block=L1_BLOCK + 45)


def lost(reply: dict[str, Any], *, sequence: int = AHEAD, at: datetime = START, **changed: Any) -> Any:
    """A state that we sealed, and have no trace of."""
    fields = {**state_of(reply), "SequenceNumber": sequence, "LastUpdate": go_time(at), **changed}
    state = json.dumps(fields).encode()
    sealed = StateSeal([b"k" * 32]).seal("account-1", state)
    return {"State": b64encode(state).decode(), "Sig": b64encode(sealed).decode()}


def raise_fence(signer: Signer) -> None:
    """As of a restore some blocks ago."""
    fence = Fence(signer.payer.address, timestamp=START)
    fence.raise_to(L1_BLOCK - 6, "test", START + timedelta(seconds=1))
    signer.signing.save(fence)


def test_a_session_goes_on_from_a_state_that_the_log_lost(
    signer: Signer, quote: QuoteMaker, newer: QuoteMaker
) -> None:
    reply = signer.pay(body(quote.text()))
    raise_fence(signer)
    signer.wait(10)

    assert signer.refused(body(quote.text(), state=lost(reply))).status == 480
    again = signer.pay(body(newer.text(), state=lost(reply)))

    assert sequence_of(again) == AHEAD + 1
    assert state_of(again)["StateID"] == state_of(reply)["StateID"]


def test_a_session_of_which_nothing_is_left_goes_on_at_its_own_price(
    signer: Signer, quote: QuoteMaker, newer: QuoteMaker
) -> None:
    reply = signer.pay(body(quote.text()))
    raise_fence(signer)
    signer.wait(10)
    unknown = lost(reply, StateID="f" * 32)

    again = signer.pay(body(newer.text(), state=unknown))

    session = signer.signing.session("account-1", "f" * 32)
    assert sequence_of(again) == AHEAD + 1
    assert session.price_per_unit == state_of(reply)["InitialPricePerUnit"]


def test_what_the_session_held_is_given_back_and_asked_for_anew(
    signer: Signer, quote: QuoteMaker, newer: QuoteMaker
) -> None:
    reply = signer.pay(body(quote.text()))
    raise_fence(signer)
    signer.wait(10)

    wish = signer.ask(body(newer.text(), state=lost(reply)), grant=None)

    assert isinstance(wish, AllowanceNeeded)
    assert wish.number == 1 + ASKS_LEFT_OUT + 1


def test_a_loss_lets_a_session_go_on_once(signer: Signer, quote: QuoteMaker, newer: QuoteMaker) -> None:
    reply = signer.pay(body(quote.text()))
    raise_fence(signer)
    signer.wait(10)
    signer.pay(body(newer.text(), state=lost(reply)))

    refusal = signer.refused(body(newer.text(), state=lost(reply, sequence=AHEAD + 5)))

    assert refusal.status == 480


def test_a_client_that_comes_again_and_again_raises_the_fence_once(signer: Signer, quote: QuoteMaker) -> None:
    reply = signer.pay(body(quote.text()))
    raise_fence(signer)
    fence: Fence = signer.signing.repository.get(Fence.create_id(signer.payer.address))
    before = fence.version

    for _ in range(5):
        signer.wait(15)
        assert signer.refused(body(quote.text(), state=lost(reply))).status == 480

    assert fence.version == before


def test_a_state_newer_than_the_fence_shows_another_loss(signer: Signer, newer: QuoteMaker) -> None:
    reply = signer.pay(body(newer.text()))
    raise_fence(signer)
    signer.wait(60)
    later = lost(reply, at=START + timedelta(seconds=30))

    assert signer.refused(body(newer.text(), state=later)).status == 480

    signer.signing.forget(Fence.create_id(signer.payer.address))
    fence: Fence = signer.signing.repository.get(Fence.create_id(signer.payer.address))
    assert fence.l1_block == L1_BLOCK
