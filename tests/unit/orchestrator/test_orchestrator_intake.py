"""Payment intake: what is credited, what is refused, and what a refusal leaves behind."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from tests.unit.orchestrator.wire import Payer, expected_value, headers
from tests.unit.orchestrator.world import EV, PRICE, Stage, changed, sdk_message
from tilt.orchestrator.addresses import parse_address
from tilt.orchestrator.tickets import Wei

pytestmark = pytest.mark.anyio

# The SDK's generated protobuf has no types.
type Message = Any
type Change = Callable[[Message], object]

OTHER_PAYER = Payer("0x" + "11" * 32)


async def test_tickets_are_credited_at_their_expected_value(stage: Stage) -> None:
    info = await stage.reserve(1, 2)

    await stage.pay(info, stage.payer.payment(info, [3]))

    assert stage.balance(info.auth_token.session_id) == 3 * expected_value(info.ticket_params)
    journal = stage.orchestrator.journal
    assert [record.ticket.nonce for record in journal.accepted] == [1, 2, 3]
    assert (journal.tickets_accepted, journal.tickets_rejected) == (3, 0)


async def test_an_accepted_payment_is_answered_with_its_token_and_fresh_params(stage: Stage) -> None:
    info = await stage.reserve(1)
    session_id = info.auth_token.session_id

    result = await stage.orchestrator.pay(session_id, *stage.payer.headers(info, [2]).values())

    assert result.info.auth_token.token == info.auth_token.token
    assert result.info.ticket_params.recipient_rand_hash != info.ticket_params.recipient_rand_hash


async def test_a_payment_stands_where_no_new_quote_is_possible(stage: Stage) -> None:
    info = await stage.reserve(1)
    stage.chain.sender = replace(stage.chain.sender, reserve=Wei(0))
    await stage.orchestrator.look_at_chain()

    result = await stage.orchestrator.pay(
        info.auth_token.session_id, *stage.payer.headers(info, [2]).values()
    )

    assert not result.info.HasField("ticket_params")
    assert stage.orchestrator.journal.tickets_accepted == 2


async def test_the_first_payment_fixes_the_price(stage: Stage) -> None:
    info = await stage.reserve(1)
    session_id = info.auth_token.session_id
    stage.orchestrator.quotes.terms = replace(stage.orchestrator.quotes.terms, price_per_unit=Wei(7))
    dearer = sdk_message(await stage.orchestrator.refresh(stage.sender, session_id))

    await stage.orchestrator.pay(session_id, *stage.payer.headers(dearer, [1]).values())

    account = stage.orchestrator.ledger.account(stage.sender, session_id)
    assert dearer.price_info.pricePerUnit == 7
    assert account.price == PRICE


async def test_a_payment_without_params_is_free_and_makes_its_session_free(stage: Stage) -> None:
    info = await stage.challenge()
    free = changed(stage.payer.payment(info, []), lambda payment: payment.ClearField("ticket_params"))
    segment = stage.payer.segment(info, info.auth_token.session_id)

    session_id = await stage.orchestrator.reserve(*headers(free, segment).values())

    assert stage.orchestrator.ledger.account(stage.sender, session_id).price == Fraction(0)


@pytest.mark.parametrize(
    "change",
    [
        lambda payment: payment.ClearField("expected_price"),
        lambda payment: payment.expected_price.ClearField("pixelsPerUnit"),
        lambda payment: payment.ClearField("expiration_params"),
        lambda payment: setattr(payment.expected_price, "pricePerUnit", -PRICE),
        lambda payment: setattr(payment.expected_price, "pixelsPerUnit", -1),
        lambda payment: setattr(payment.expiration_params, "creation_round", -1),
        lambda payment: setattr(payment.ticket_params, "face_value", b"\1" * 33),
    ],
)
async def test_a_payment_that_lacks_what_it_needs_is_refused_whole(stage: Stage, change: Change) -> None:
    info = await stage.reserve(1)

    status, _ = await stage.refusal(info, changed(stage.payer.payment(info, [2]), change))

    assert status == 400
    assert stage.orchestrator.journal.tickets_rejected == 0


async def test_an_orchestrator_that_is_not_active_takes_no_tickets(stage: Stage) -> None:
    info = await stage.reserve(1)
    stage.chain.current = replace(stage.chain.current, recipient_is_active=False)
    await stage.orchestrator.look_at_chain()

    status, text = await stage.refusal(info, stage.payer.payment(info, [2]))

    assert (status, text) == (400, "orchestrator is inactive in round 10")


async def test_winners_are_kept_once_even_where_they_are_not_credited(stage: Stage) -> None:
    stage.win_almost_always()
    info = await stage.reserve(*range(1, 20))
    winners = len(list(stage.orchestrator.winners))

    await stage.refusal(info, stage.payer.payment(info, range(1, 40)))

    everything = list(stage.orchestrator.winners)
    nonces = [winner.ticket.nonce for winner in everything]
    assert 0 < winners < len(everything)
    assert len(set(nonces)) == len(nonces)
    assert stage.orchestrator.journal.tickets_accepted == 19
    assert stage.orchestrator.winners.pending(stage.sender) == (EV + 1) * len(everything)
    assert all(parse_address(stage.payer.address) == winner.ticket.sender for winner in everything)
