"""Steering: terms and prices, a lost memory, repeated challenges, and what /status tells of it."""

from pathlib import Path
from typing import Any

import pytest

from tests.unit.orchestrator.running_site import ONCE, PIXELS, SESSION, Site, path_of, running
from tests.unit.orchestrator.wire import parse_info
from tests.unit.orchestrator.world import PRICE

pytestmark = pytest.mark.anyio


async def test_tests_can_change_the_terms(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        changed = await site.control(
            ticket_ev_wei=1000, face_value_wei=5000, price_per_unit=77, params_life_blocks=3
        )
        _, info = await site.challenge()
        _, pixels = await site.challenge(PIXELS)

    assert changed == 200
    assert int.from_bytes(info.ticket_params.face_value) == 5000
    assert info.price_info.pricePerUnit == 77
    assert int.from_bytes(info.ticket_params.expiration_block) == 1003
    assert pixels.price_info.pricePerUnit != 77


async def test_tests_can_change_each_runner_each_model_and_what_is_offered(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        await site.control(
            price_per_unit=31,
            base_price={"price_per_unit": 8, "pixels_per_unit": 3},
            runners={"runner-1": {"capacity": 1}, "pixels": {"price_per_unit": 5, "pixels_per_unit": 2}},
            models={"live-video-to-video/flow": {"price_per_unit": 9, "runner_version": "2.0.0"}},
            version="1.0.0",
            mandatories=[12],
        )
        _, info = await site.challenge(PIXELS)
        status = await site.status()

    first, pixels, *_ = status["runners"]
    assert (info.price_info.pricePerUnit, info.price_info.pixelsPerUnit) == (5, 2)
    assert (first["price_per_unit"], first["capacity"], pixels["price_per_unit"]) == (31, 1, 5)
    assert status["base_price"] == {"price_per_unit": 8, "pixels_per_unit": 3}
    assert status["models"][0]["runner_version"] == "2.0.0"
    assert (status["version"], status["mandatories"]) == ("1.0.0", [12])


async def test_mandatories_are_asked_of_each_payment(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        await site.control(mandatories=[12])
        _, info = await site.challenge()

        answer = await site.post(SESSION, headers=site.payer.headers(info, [1]), json={})

    assert answer == (403, "incompatible capabilities")


async def test_a_reset_puts_everything_back(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        before = await site.status()
        await site.control(
            ticket_ev_wei=150,
            capped=True,
            version="0.0.1",
            runners={"once": {"ready": False}},
            models={"byoc/tool": {"capacity": 0}},
            quote={"fields": {"address": None}},
            repeat_402=2,
            faults=[{"route": "discovery", "kind": "status"}],
        )
        changed = await site.status()
        await site.control(reset=True, price_per_unit=31)
        after = await site.status()

    assert all(changed[key] for key in ("quote", "repeat_402", "faults", "capped"))
    after["runners"][0]["price_per_unit"] = after["terms"]["price_per_unit"] = PRICE
    assert after == before


async def test_tests_can_make_quotes_short_lived_and_long_lived_again(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        await site.control(expire_params=True)
        _, short = await site.challenge()
        await site.control(expire_params=False)
        _, long = await site.challenge()
        await site.control(token_life_seconds=7)
        _, chosen = await site.challenge()

    refresh_below_seconds = 180
    now = int(site.clock.now)
    assert refresh_below_seconds < short.auth_token.expiration - now < refresh_below_seconds + 3
    assert long.auth_token.expiration - now == 1800
    assert chosen.auth_token.expiration - now == 7


async def test_tests_can_renew_the_secret_and_release_a_session(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        info = await site.reserve(1)
        await site.control(new_secret=True)
        answer = await site.post(path_of(info), headers=site.payer.headers(info, [2]))
        released = await site.control(release=info.auth_token.session_id)
        again = await site.control(release=info.auth_token.session_id)
        status = await site.status()

    assert answer == (400, "invalid recipientRand for ticket recipientRandHash")
    assert (released, again) == (200, 404)
    assert status["sessions"] == []
    assert [record["reason"] for record in status["rejected"]] == [answer[1]]


async def test_a_restart_without_state_forgets_all_but_the_winners(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        info = await site.reserve(*range(1, 60))
        winners = (await site.status())["winners"]
        await site.control(restart=True)
        status = await site.status()
        paid = await site.post(path_of(info), headers=site.payer.headers(info, [60]))
        reserved = await site.post(SESSION, headers=site.payer.headers(info, [60]))
        nonces = list(site.orchestrator.store.nonces())

    assert winners
    assert status["winners"] == winners
    assert (status["sessions"], status["manifests"], nonces) == ([], [], [])
    assert [session["release_reason"] for session in status["released"]] == ["restarted by a test"]
    assert paid == (404, "runner session not found")
    assert reserved == (403, "invalid auth token")


@pytest.mark.parametrize(
    "change",
    [
        {"ticket_ev_wei": 0},
        {"ticket_ev_wei": 400},
        {"ticket_ev_wei": "7"},
        {"face_value_wei": 100},
        {"price_per_unit": -1},
        {"price_per_unit": 0},
        {"base_price": {"price_per_unit": 1, "pixels_per_unit": 0}},
        {"new_secret": 1},
        {"no_such_thing": True},
        {"runners": {"runner-1": {"capacity": -1}}},
        {"runners": {"runner-1": {"id": "other"}}},
        {"runners": {"once": {"pixels_per_unit": 2}}},
        {"models": {"byoc/tool": {"name": "other"}}},
        {"faults": [{"route": "nowhere", "kind": "status"}]},
        {"faults": [{"route": "payment", "kind": "meteor"}]},
        {"faults": [{"route": "payment", "kind": "status", "times": 0}]},
        {"quote": {"fields": {"no_such_field": 1}}},
        {"quote": {"fields": {"address": "not hex"}}},
        {"quote": {"fields": {"address": -1}}},
        {"quote": {"fields": {"ticket_params": 7}}},
        {"quote": {"fields": {"price_info": {"price_per_unit": "x"}}}},
        {"repeat_402": {"times": 0}},
    ],
)
async def test_a_wish_that_makes_no_sense_changes_nothing(tmp_path: Path, change: dict[str, Any]) -> None:
    async with running(tmp_path) as site:
        before = await site.status()

        status = await site.control(params_life_blocks=7, **change)

        assert status == 400
        assert await site.status() == before


@pytest.mark.parametrize("change", [{"runners": {"nobody": {}}}, {"models": {"byoc/none": {}}}])
async def test_a_wish_for_what_is_unknown_is_404(tmp_path: Path, change: dict[str, Any]) -> None:
    async with running(tmp_path) as site:
        assert await site.control(**change) == 404


async def pay_challenge(site: Site, nonce: int, path: str = SESSION) -> tuple[int, str]:
    _, info = await site.challenge(path)
    shown = {**site.payer.headers(info, [nonce]), "Livepeer-Payer-Address": site.payer.address}
    return await site.post(path, headers=shown, json={})


async def answer_to(site: Site, info: Any) -> tuple[int, Any]:
    """Pay for a quote as the SDK does, its address along with it; read a challenge if that is the answer."""
    shown = {**site.payer.headers(info, [1]), "Livepeer-Payer-Address": site.payer.address}
    async with site.client.post(SESSION, headers=shown, json={}) as response:
        body = await response.json()
    return response.status, parse_info(body["payment_params"]) if response.status == 402 else body


async def test_paid_requests_can_be_challenged_afresh(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        await site.control(repeat_402=2)
        _, first = await site.challenge()
        _, second = await answer_to(site, first)
        _, third = await answer_to(site, second)
        status, reserved = await answer_to(site, third)
        told = await site.status()

    quotes = [first, second, third]
    assert status == 200
    assert reserved["session_id"] == third.auth_token.session_id
    assert len({quote.auth_token.session_id for quote in quotes}) == 3
    assert len({quote.ticket_params.recipient_rand_hash for quote in quotes}) == 3
    assert [given["repeats"] for given in told["challenges"]] == ["", "fresh", "fresh"]
    assert [given["manifest_id"] for given in told["challenges"]] == [
        quote.auth_token.session_id for quote in quotes
    ]
    assert [ignored["manifest_id"] for ignored in told["ignored"]] == [
        quote.auth_token.session_id for quote in quotes[:2]
    ]
    assert told["ignored"][0]["nonces"] == [1]
    counters = told["counters"]
    assert (counters["challenges"], counters["challenges_repeated"]) == (3, 2)
    assert (counters["payments_received"], counters["payments_ignored"]) == (3, 2)
    assert (counters["payments_accepted"], counters["payments_refused"]) == (1, 0)
    assert told["repeat_402"] == {"times": 2, "runner": None, "same": False, "done": 2}


async def test_paid_requests_can_be_challenged_with_the_very_same(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        await site.control(repeat_402={"times": 2, "same": True})
        _, first = await site.challenge()
        _, second = await answer_to(site, first)
        _, third = await answer_to(site, second)
        status, _ = await answer_to(site, third)
        told = await site.status()

    assert first == second == third
    assert status == 200  # the tickets that were ignored have not used up their nonces
    assert [given["repeats"] for given in told["challenges"]] == ["", "same", "same"]


async def test_challenges_are_repeated_at_the_runner_that_is_meant_and_until_told_otherwise(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as site:
        await site.control(repeat_402={"times": 5, "runner": "once"})
        elsewhere, _ = await pay_challenge(site, 1)
        there, _ = await pay_challenge(site, 1, ONCE)
        await site.control(repeat_402=0)
        afterwards, _ = await pay_challenge(site, 1, ONCE)

    assert (elsewhere, there, afterwards) == (200, 402, 400)


async def test_status_can_be_kept_short(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        await site.reserve(*range(1, 10))
        status = await site.get("/status?limit=2")

    assert [record["nonce"] for record in status["accepted"]] == [8, 9]
    assert status["counters"]["tickets_accepted"] == 9
