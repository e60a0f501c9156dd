"""Payment intake: what is credited, what is refused, and what a refusal leaves behind."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.orchestrator.wire import Payer, expected_value, headers
from tests.unit.orchestrator.world import EV, ORIGIN, PRICE, Stage, changed, sdk_message
from tilt.orchestrator.addresses import parse_address
from tilt.orchestrator.terms import Price
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
    assert (journal.counters.tickets_accepted, journal.counters.tickets_rejected) == (3, 0)


async def test_an_accepted_payment_is_answered_with_its_token_and_fresh_params(stage: Stage) -> None:
    info = await stage.reserve(1)

    stage.clock.now += 60
    result = await stage.pay(info, stage.payer.payment(info, [2]))

    assert sdk_message(result.info).auth_token == info.auth_token
    assert result.info.ticket_params.recipient_rand_hash != info.ticket_params.recipient_rand_hash


async def test_a_sender_who_can_be_quoted_nothing_is_not_credited(stage: Stage) -> None:
    info = await stage.reserve(1)
    stage.chain.sender = replace(stage.chain.sender, reserve=Wei(0))
    await stage.orchestrator.look_at_chain()

    answer = await stage.refusal(info, stage.payer.payment(info, [2]))

    assert answer == (500, "insufficient sender reserve")
    assert stage.orchestrator.journal.counters.tickets_accepted == 1


async def test_the_first_payment_fixes_the_price_that_is_quoted_and_charged(stage: Stage) -> None:
    info = await stage.reserve(1)
    session_id = info.auth_token.session_id
    stage.raise_price(77)

    quoted = sdk_message((await stage.live_runners.refresh(stage.sender, session_id, ORIGIN)).info)
    result = await stage.pay(quoted, stage.payer.payment(quoted, [1]))

    assert quoted.price_info.pricePerUnit == result.info.price_info.price_per_unit == PRICE
    assert stage.orchestrator.sessions.find("runner-1", session_id).price == PRICE
    assert (await stage.challenge()).price_info.pricePerUnit == 77


async def test_a_payment_without_params_opens_a_session_but_credits_nothing(stage: Stage) -> None:
    info = await stage.challenge()
    free = changed(stage.payer.payment(info, []), lambda payment: payment.ClearField("ticket_params"))
    segment = stage.payer.segment(info, info.auth_token.session_id)

    session = await stage.open(*headers(free, segment).values())

    assert stage.balance(session.session_id) == 0
    assert stage.orchestrator.fixed_price(stage.sender, session.session_id) == Price(0)


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
    assert stage.orchestrator.journal.counters.tickets_rejected == 0


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
    assert stage.orchestrator.journal.counters.tickets_accepted == 19
    assert stage.orchestrator.winners.pending(stage.sender) == (EV + 1) * len(everything)
    assert all(parse_address(stage.payer.address) == winner.ticket.sender for winner in everything)
