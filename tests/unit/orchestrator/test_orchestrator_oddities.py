"""Odd quotes: a hostile orchestrator's, in any field, and honoured unless that is impossible."""

from pathlib import Path
from typing import Any

import pytest

from tests.unit.orchestrator.running_site import SESSION, path_of, running
from tests.unit.orchestrator.wire import expected_value

pytestmark = pytest.mark.anyio

CERTAIN = 2**256 - 1


def odd(**fields: Any) -> dict[str, Any]:
    return {"quote": {"fields": fields}}


@pytest.mark.parametrize(
    ("fields", "read", "value"),
    [
        ({"price_info": {"price_per_unit": -5}}, lambda info: info.price_info.pricePerUnit, -5),
        ({"price_info": {"pixels_per_unit": 0}}, lambda info: info.price_info.pixelsPerUnit, 0),
        ({"price_info": None}, lambda info: info.HasField("price_info"), False),
        ({"ticket_params": None}, lambda info: info.HasField("ticket_params"), False),
        ({"ticket_params": {"win_prob": CERTAIN}}, lambda info: info.ticket_params.win_prob, b"\xff" * 32),
        ({"ticket_params": {"face_value": 0}}, lambda info: info.ticket_params.face_value, b""),
        ({"ticket_params": {"face_value": "0x00ff"}}, lambda info: info.ticket_params.face_value, b"\0\xff"),
        ({"ticket_params": {"face_value": "01" * 33}}, lambda info: len(info.ticket_params.face_value), 33),
        (
            {"ticket_params": {"recipient": "11" * 20}},
            lambda info: info.ticket_params.recipient,
            b"\x11" * 20,
        ),
        ({"ticket_params": {"recipient": "0x1122"}}, lambda info: info.ticket_params.recipient, b"\x11\x22"),
        (
            {"ticket_params": {"expiration_block": 10**9}},
            lambda info: int.from_bytes(info.ticket_params.expiration_block),
            10**9,
        ),
        (
            {"ticket_params": {"expiration_params": None}},
            lambda info: info.ticket_params.HasField("expiration_params"),
            False,
        ),
        (
            {"ticket_params": {"expiration_params": {"creation_round": 99}}},
            lambda info: info.ticket_params.expiration_params.creation_round,
            99,
        ),
        (
            {"ticket_params": {"expiration_params": {"creation_round_block_hash": "ab"}}},
            lambda info: info.ticket_params.expiration_params.creation_round_block_hash,
            b"\xab",
        ),
        (
            {"ticket_params": {"recipient_rand_hash": "cd"}},
            lambda info: info.ticket_params.recipient_rand_hash,
            b"\xcd",
        ),
        ({"address": "00" * 21}, lambda info: info.address, bytes(21)),
        ({"transcoder": ""}, lambda info: info.transcoder, ""),
        ({"auth_token": {"expiration": -1}}, lambda info: info.auth_token.expiration, -1),
        ({"nodes": ["a", "b"]}, lambda info: list(info.nodes), ["a", "b"]),
        (
            {"capabilities_prices": [{"price_per_unit": -1, "capability": 35}]},
            lambda info: [price.pricePerUnit for price in info.capabilities_prices],
            [-1],
        ),
        (
            {"capabilities": {"capacities": {"35": 9}}},
            lambda info: dict(info.capabilities.capacities),
            {35: 9},
        ),
    ],
)
async def test_any_field_of_a_quote_can_be_replaced(
    tmp_path: Path, fields: dict[str, Any], read: Any, value: object
) -> None:
    async with running(tmp_path) as site:
        assert await site.control(**odd(**fields)) == 200
        _, info = await site.challenge()

    assert read(info) == value


@pytest.mark.parametrize(
    "fields",
    [
        {"ticket_params": {"face_value": 10**18}},
        {"ticket_params": {"win_prob": CERTAIN}},
        {"ticket_params": {"expiration_block": 10**9, "expiration_params": {"creation_round": 3}}},
        {"price_info": {"price_per_unit": 10**15}},
    ],
)
async def test_tickets_under_an_odd_quote_are_honoured(tmp_path: Path, fields: dict[str, Any]) -> None:
    async with running(tmp_path) as site:
        await site.control(**odd(**fields))
        info = await site.reserve(1)
        manifest = await site.manifest(info.auth_token.session_id)

    assert manifest["credited"] == str(expected_value(info.ticket_params))


async def test_what_cannot_be_honoured_is_quoted_all_the_same(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        await site.control(**odd(ticket_params={"recipient": "11" * 20}))
        _, info = await site.challenge()
        answer = await site.post(SESSION, headers=site.payer.headers(info, [1]), json={})

    assert answer == (400, "invalid ticket recipient")


async def test_oddity_ends_after_so_many_quotes_or_when_it_is_taken_back(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        await site.control(quote={"fields": {"transcoder": "odd"}, "times": 2})
        few = [(await site.challenge())[1].transcoder for _ in range(3)]
        told = (await site.status())["quote"]
        await site.control(**odd(transcoder="odd"))
        await site.challenge()
        await site.control(quote=None)
        _, honest = await site.challenge()

    assert [quote == "odd" for quote in few] == [True, True, False]
    assert told == {"fields": {"transcoder": "odd"}, "on": None, "times": 2, "quoted": 2}
    assert honest.transcoder == site.orchestrator.url
    assert site.orchestrator.oddities.wanted is None


async def test_oddity_can_be_kept_to_an_occasion(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        await site.control(quote={"fields": {"transcoder": "odd"}, "on": ["result"]})
        info = await site.reserve(1)
        _, result = await site.post_raw(path_of(info), headers=site.payer.headers(info, [2]))

    assert info.transcoder == site.orchestrator.url
    assert b"odd" in result
