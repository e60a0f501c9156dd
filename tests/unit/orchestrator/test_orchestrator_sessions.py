"""Sessions: debited by the clock, released when money or patience ends; and what a restart keeps."""

from dataclasses import replace
from fractions import Fraction

import pytest

from tests.unit.orchestrator.wire import expected_value
from tests.unit.orchestrator.world import PRICE, Stage
from tilt.orchestrator.refusals import RefusedError

pytestmark = pytest.mark.anyio


def after(stage: Stage, seconds: float) -> None:
    stage.clock.now += seconds
    stage.orchestrator.sessions.debit(stage.clock())


async def test_nothing_is_debited_before_an_interval_is_over(stage: Stage) -> None:
    info = await stage.reserve(1, 2)

    after(stage, 4.99)

    assert stage.balance(info.auth_token.session_id) == 2 * expected_value(info.ticket_params)


async def test_whole_seconds_are_debited_and_the_rest_carried(stage: Stage) -> None:
    info = await stage.reserve(*range(1, 21))
    session_id, paid = info.auth_token.session_id, 20 * expected_value(info.ticket_params)

    after(stage, 5.75)
    first = paid - stage.balance(session_id)
    after(stage, 5.75)
    second = paid - stage.balance(session_id)

    assert (first, second) == (5 * PRICE, 11 * PRICE)


@pytest.mark.parametrize(("missing", "reasons"), [(0, []), (1, ["insufficient balance"])])
async def test_a_balance_of_exactly_the_fee_is_enough_and_one_wei_less_is_not(
    stage: Stage, missing: int, reasons: list[str]
) -> None:
    info = await stage.reserve(1, 2)
    session_id = info.auth_token.session_id
    account = stage.orchestrator.ledger.open(stage.sender, session_id, "runner")

    account.credited = Fraction(10 * PRICE - missing)
    after(stage, 5)
    after(stage, 5)

    assert [released.release_reason for released in stage.orchestrator.sessions.released] == reasons
    assert stage.balance(session_id) == (5 * PRICE - 1 if missing else 0)


async def test_a_released_session_takes_no_payment(stage: Stage) -> None:
    info = await stage.reserve(1)
    after(stage, 5)

    with pytest.raises(RefusedError, match="runner session not found"):
        await stage.pay(info, stage.payer.payment(info, [3]))


async def test_a_session_can_be_reserved_once(stage: Stage) -> None:
    info = await stage.reserve(1)

    with pytest.raises(RefusedError) as refused:
        await stage.open(*stage.payer.headers(info, [2]).values())

    assert (refused.value.status, refused.value.text) == (409, "session already exists")
    assert stage.orchestrator.journal.counters.tickets_accepted == 1


async def test_a_full_runner_takes_no_tickets(stage: Stage) -> None:
    await stage.reserve(1)
    await stage.reserve(1)

    with pytest.raises(RefusedError) as refused:
        await stage.reserve(1)

    assert (refused.value.status, refused.value.text) == (503, "no capacity available for runner")
    assert stage.orchestrator.journal.counters.tickets_accepted == 2


async def test_a_reservation_whose_payment_fails_is_undone_but_its_good_tickets_stay(stage: Stage) -> None:
    info = await stage.challenge()

    with pytest.raises(RefusedError, match="already seen nonce=1"):
        await stage.open(*stage.payer.headers(info, [1, 1]).values())

    assert not stage.orchestrator.sessions.active
    assert stage.balance(info.auth_token.session_id) == expected_value(info.ticket_params)


async def test_quotes_nonces_and_winners_outlive_a_restart(stage: Stage) -> None:
    stage.win_almost_always()
    info = await stage.reserve(*range(1, 40))
    winners = list(stage.orchestrator.winners)
    stage.orchestrator.store.close()

    stage.restart()
    await stage.orchestrator.look_at_chain()
    await stage.open(*stage.payer.headers(info, [40]).values())
    with pytest.raises(RefusedError, match="already seen nonce=39"):
        await stage.pay(info, stage.payer.payment(info, [39]))

    assert winners
    assert list(stage.orchestrator.winners)[: len(winners)] == winners


async def test_a_new_secret_outlives_a_restart(stage: Stage) -> None:
    info = await stage.challenge()
    stage.orchestrator.renew_ticket_secret()
    secret = stage.orchestrator.quotes.ticket_secret
    stage.orchestrator.store.close()

    stage.restart()
    await stage.orchestrator.look_at_chain()

    assert stage.orchestrator.quotes.ticket_secret == secret
    with pytest.raises(RefusedError, match="invalid recipientRand"):
        await stage.open(*stage.payer.headers(info, [1]).values())


async def test_nonces_are_forgotten_with_their_params(stage: Stage) -> None:
    info = await stage.reserve(1)
    stage.chain.current = replace(stage.chain.current, l1_block=1040)

    await stage.orchestrator.look_at_chain()

    assert stage.orchestrator.nonces.fault_of(info.ticket_params.recipient_rand_hash, 1) is None
    assert not list(stage.orchestrator.store.nonces())
