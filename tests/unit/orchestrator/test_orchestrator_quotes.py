"""Quotes: what is asked of whom, and what a sender's funds allow."""

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.orchestrator.wire import expected_value
from tests.unit.orchestrator.world import (
    BLOCK_HASH,
    EV,
    FACE_VALUE,
    ORIGIN,
    PRICE,
    RECIPIENT,
    FakeChain,
    Stage,
)
from tilt.orchestrator.quotes import max_float
from tilt.orchestrator.refusals import RefusedError
from tilt.orchestrator.terms import Price, Terms, UnacceptableTermsError
from tilt.orchestrator.tickets import Wei

pytestmark = pytest.mark.anyio


async def test_a_quote_is_what_a_signer_accepts(stage: Stage) -> None:
    info = await stage.challenge()

    params = info.ticket_params
    assert info.address == params.recipient == RECIPIENT
    assert (info.price_info.pricePerUnit, info.price_info.pixelsPerUnit) == (PRICE, 1)
    assert int.from_bytes(params.face_value) == FACE_VALUE
    assert EV <= expected_value(params) < EV + 1
    assert int.from_bytes(params.expiration_block) == stage.chain.current.l1_block + 40
    assert params.expiration_params.creation_round == 10
    assert params.expiration_params.creation_round_block_hash == BLOCK_HASH
    assert info.auth_token.expiration == int(stage.clock.now) + 1800
    assert len(info.auth_token.session_id) == 8


async def test_integers_travel_in_as_few_bytes_as_they_need(stage: Stage) -> None:
    params = (await stage.challenge()).ticket_params

    for number in (params.face_value, params.win_prob, params.expiration_block):
        assert number[0] != 0


async def test_no_two_quotes_are_alike(stage: Stage) -> None:
    first, second = await stage.challenge(), await stage.challenge()

    assert first.ticket_params.recipient_rand_hash != second.ticket_params.recipient_rand_hash
    assert first.auth_token.session_id != second.auth_token.session_id


@pytest.mark.parametrize(
    ("reserve", "face_value"),
    [(100 * FACE_VALUE, FACE_VALUE), (100 * FACE_VALUE - 1, FACE_VALUE - 1), (100 * EV, EV)],
)
async def test_the_face_value_shrinks_to_a_share_of_the_reserve(
    stage: Stage, reserve: int, face_value: int
) -> None:
    stage.chain.sender = replace(stage.chain.sender, reserve=Wei(reserve))

    params = (await stage.challenge()).ticket_params

    assert int.from_bytes(params.face_value) == face_value


async def test_a_reserve_whose_share_is_below_one_ticket_gets_no_quote(stage: Stage) -> None:
    stage.chain.sender = replace(stage.chain.sender, reserve=Wei(100 * EV - 1))

    with pytest.raises(RefusedError, match="insufficient sender reserve"):
        await stage.challenge()


@pytest.mark.parametrize(
    ("funds", "pool_size", "pending", "expected"),
    [
        ({"deposit": 0, "reserve": 1000}, 100, 0, 10),
        ({"deposit": 0, "reserve": 1099}, 100, 0, 10),
        ({"deposit": 0, "reserve": 1000, "claimed_in_current_round": 500}, 100, 0, 15),
        ({"deposit": 0, "reserve": 1000, "claimed_by_recipient": 3}, 100, 0, 7),
        ({"deposit": 0, "reserve": 1000}, 0, 0, 0),
        ({"deposit": 9, "reserve": 1000}, 100, 3, 10),
        ({"deposit": 8, "reserve": 1000}, 100, 3, 7),
    ],
)
def test_max_float_counts_winners_unless_the_deposit_covers_them_thrice(
    funds: dict[str, Any], pool_size: int, pending: int, expected: int
) -> None:
    sender = replace(FakeChain().sender, **funds)

    assert max_float(sender, pool_size, Wei(pending)) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"ticket_ev": 0},
        {"face_value": EV},
        {"face_value": 2**256},
        {"params_life_blocks": 0},
        {"params_life_blocks": 1001},
        {"token_life_seconds": 0},
        {"token_life_seconds": 1801},
    ],
)
def test_terms_that_no_signer_takes_cannot_be_set(changes: dict[str, Any]) -> None:
    terms = Terms(ticket_ev=Wei(EV), face_value=Wei(FACE_VALUE))

    with pytest.raises(UnacceptableTermsError):
        replace(terms, **changes)


@pytest.mark.parametrize("price", [(-1, 1), (2**63, 1), (1, 0), (1, -1), (1, 2**63)])
def test_a_price_is_an_int64_and_not_negative(price: tuple[int, int]) -> None:
    with pytest.raises(UnacceptableTermsError):
        Price(*price)


async def test_what_is_free_is_quoted_without_worth(stage: Stage) -> None:
    await stage.orchestrator.look_at_chain()
    stage.chain.sender = replace(stage.chain.sender, reserve=Wei(0))

    info = await stage.orchestrator.quote(stage.sender, "00000000", price=Price(0), origin=ORIGIN)

    assert not info.ticket_params.face_value
    assert not info.ticket_params.win_prob


async def test_nothing_is_quoted_before_the_chain_was_seen(stage: Stage) -> None:
    stage.chain.is_down = True

    with pytest.raises(RefusedError, match="chain not reached yet"):
        await stage.challenge()


async def test_a_chain_that_went_away_leaves_quotes_for_known_senders(stage: Stage) -> None:
    await stage.challenge()
    stage.chain.is_down = True

    info = await stage.challenge()

    assert info.ticket_params.face_value
