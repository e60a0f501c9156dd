"""Runners of every kind: by the second, by the pixel, by the call; and the order of their refusals."""

import asyncio
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tests.unit.orchestrator.running_site import ONCE, PIXELS, SESSION, Site, path_of, running
from tests.unit.orchestrator.wire import expected_value, headers
from tests.unit.orchestrator.world import PIXEL_PRICE, PIXELS_PER_PRICE

pytestmark = pytest.mark.anyio

TICKET = "/apps/ticket/session"
PIXELS_PER_SECOND = 27_648_000
MOMENT = 2**-22  # seconds, and 6.59 pixels


async def test_pixels_are_debited_as_they_pass_and_the_rest_of_one_is_carried(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        info = await site.reserve(*range(1, 101), path=PIXELS)
        session_id = info.auth_token.session_id

        await site.after(5 + MOMENT)
        first = await site.manifest(session_id)
        await site.after(5 + MOMENT)
        second = await site.manifest(session_id)

    assert first["units"] == 5 * PIXELS_PER_SECOND + 6
    assert second["units"] == 10 * PIXELS_PER_SECOND + 13
    assert Fraction(second["debited"]) == second["units"] * Fraction(PIXEL_PRICE, PIXELS_PER_PRICE)
    assert Fraction(second["credited"]) == 100 * expected_value(info.ticket_params)
    assert Fraction(second["balance"]) == Fraction(second["credited"]) - Fraction(second["debited"])


async def test_a_session_of_pixels_that_is_not_paid_on_is_released(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        info = await site.reserve(*range(1, 10), path=PIXELS)  # about 900 wei, and 968 are due
        await site.after(5)
        manifest = await site.manifest(info.auth_token.session_id)
        paid = await site.post(path_of(info, of=PIXELS), headers=site.payer.headers(info, [10]))

    assert (manifest["active"], manifest["release_reason"]) == (False, "insufficient balance")
    assert (manifest["units"], manifest["debited"]) == (0, "0")
    assert paid == (404, "runner session not found")


async def test_a_single_shot_is_challenged_paid_and_answered_at_one_url(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        _, info = await site.challenge(ONCE)
        paid = site.payer.headers(info, [1, 2, 3])
        status, text = await site.post(f"{ONCE}/some/where", headers=paid, json={"say": "hello"})
        manifest = await site.manifest(info.auth_token.session_id)
        again, _ = await site.post(ONCE, headers=site.payer.headers(info, [4, 5, 6]), json={})

    assert (status, text) == (200, '{"say": "hello"}')
    assert (manifest["units"], manifest["debited"]) == (1, "250")
    assert Fraction(manifest["balance"]) == 3 * expected_value(info.ticket_params) - 250
    assert (manifest["place"], manifest["release_reason"]) == ("once", "finished")
    assert again == 200


async def test_a_single_shot_whose_price_is_not_covered_is_refused_and_released(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        _, info = await site.challenge(ONCE)
        answer = await site.post(ONCE, headers=site.payer.headers(info, [1, 2]), json={})
        manifest = await site.manifest(info.auth_token.session_id)

    assert answer == (400, "insufficient balance")
    assert (manifest["tickets"], manifest["debited"]) == (2, "0")
    assert manifest["release_reason"] == "insufficient balance"


@pytest.mark.parametrize(
    "change",
    [
        lambda payment: setattr(payment.expected_price, "pricePerUnit", 249),
        lambda payment: payment.MergeFrom(
            type(payment)(expected_price={"pricePerUnit": 250, "pixelsPerUnit": 2})
        ),
        lambda payment: payment.ClearField("expected_price"),
    ],
)
async def test_a_fixed_price_has_to_be_named_exactly(tmp_path: Path, change: Any) -> None:
    async with running(tmp_path) as site:
        _, info = await site.challenge(ONCE)
        payment = site.payer.payment(info, [1, 2, 3])
        change(payment)
        shown = headers(payment, site.payer.segment(info, info.auth_token.session_id))

        answer = await site.post(ONCE, headers=shown, json={})
        status = await site.status()

    assert answer == (400, "payment price does not match live runner price")
    assert status["released"] == status["rejected"] == status["manifests"] == []


async def test_a_session_at_a_fixed_price_takes_no_payment_more(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        info = await site.reserve(1, path=TICKET)
        answer = await site.post(path_of(info, of=TICKET), headers={"Livepeer-Payment": "%%%"})
        await site.after(3600)
        manifest = await site.manifest(info.auth_token.session_id)

    assert answer == (409, "fixed-price live runner sessions do not accept follow-up payments")
    assert (manifest["units"], manifest["debited"], manifest["active"]) == (1, "100", True)


async def test_a_single_shot_under_way_takes_no_payment_and_no_second_call(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        await site.control(runners={"once": {"work_seconds": 60}})
        _, info = await site.challenge(ONCE)
        call = asyncio.create_task(site.post(ONCE, headers=site.payer.headers(info, [1, 2, 3]), json={}))
        while not (await site.status())["sessions"]:
            await asyncio.sleep(0)
        url = f"/apps/once/session/{info.auth_token.session_id}/payment"
        paid, _ = await site.post(url, headers=site.payer.headers(info, [4]))
        _, other = await site.challenge(ONCE)
        full = await site.post(ONCE, headers=site.payer.headers(other, [1, 2, 3]), json={})
        await site.control(release=info.auth_token.session_id)
        answer = await call

    assert paid == 409
    assert full == (503, "no capacity available for runner")
    assert answer == (200, "{}")


async def test_a_metered_single_shot_ends_with_its_money(tmp_path: Path) -> None:
    metered = {"unit": "seconds", "price_per_unit": 30, "work_seconds": 60}
    async with running(tmp_path) as site:
        await site.control(runners={"once": metered})
        _, info = await site.challenge(ONCE)
        call = asyncio.create_task(site.post(ONCE, headers=site.payer.headers(info, [1]), json={}))
        while not (await site.status())["sessions"]:
            await asyncio.sleep(0)
        await site.after(5)
        answer = await call

    assert answer == (502, "context canceled")


async def test_runners_answer_only_as_what_they_are(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        answers = [
            await site.post("/apps/once/session"),
            await site.post("/apps/runner-1/app"),
            await site.post("/apps/nobody/session"),
            await site.post("/apps/nobody/app"),
            await site.post("/apps/nobody/session/deadbeef/payment"),
            await site.post("/apps/nobody/session/deadbeef/stop"),
        ]

    assert answers == [
        (400, "only persistent runners have sessions"),
        (400, "runner is not single-shot"),
        *[(404, "runner not found")] * 4,
    ]


async def test_the_order_of_refusals_at_a_reservation_is_go_livepeers(tmp_path: Path) -> None:
    """Break everything at once, then repair it step by step."""
    async with running(tmp_path) as site:
        _, full = await site.challenge(ONCE)
        payment, segment = site.payer.payment(full, [1]), site.payer.segment(full, "deadbeef")
        payment.expected_price.pricePerUnit = 1
        payment.ticket_sender_params[0].sig = b""
        await site.control(runners={"once": {"capacity": 0, "ready": False}})
        shown = {**headers(payment, segment), "Livepeer-Payment": "%%%"}
        answers = [await site.post(ONCE, headers=shown)]
        await site.control(runners={"once": {"ready": True}})
        answers.append(await site.post(ONCE, headers={"Livepeer-Payer-Address": "nobody"}))
        answers.append(await site.post(ONCE, headers=shown))
        answers.append(await site.post(ONCE, headers={**headers(payment, segment), "Livepeer-Segment": "%"}))
        answers.append(await site.post(ONCE, headers=headers(payment, segment)))
        segment = site.payer.segment(full, full.auth_token.session_id)
        answers.append(await site.post(ONCE, headers=headers(payment, segment)))
        payment.expected_price.pricePerUnit = 250
        answers.append(await site.post(ONCE, headers=headers(payment, segment)))
        await site.control(runners={"once": {"capacity": 1}})
        answers.append(await site.post(ONCE, headers=headers(payment, segment)))
        answers.append(await site.post(ONCE, headers=site.payer.headers(full, [1])))
        answers.append(await site.post(ONCE, headers=site.payer.headers(full, [2, 3])))

    assert [status for status, _ in answers] == [404, 402, 402, 403, 403, 400, 503, 400, 400, 200]
    texts = [text for _, text in answers]
    assert texts[3:9] == [
        "ErrorSegEncoding",
        "mismatched manifest and auth token",
        "payment price does not match live runner price",
        "no capacity available for runner",
        "invalid ticket signature",
        "insufficient balance",
    ]


async def test_the_order_of_refusals_at_a_session_payment_is_go_livepeers(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        info = await site.reserve(1)
        foreign = headers(site.payer.payment(info, [2]), site.payer.segment(info, "deadbeef"))

        async def pay(shown: dict[str, str], session: str = SESSION) -> int:
            return (await site.post(path_of(info, of=session), headers=shown))[0]

        unknown = await pay({"Livepeer-Payment": "%%%"}, PIXELS)
        unreadable = await pay({**foreign, "Livepeer-Payment": "%%%"})
        uncredentialed = await pay({**foreign, "Livepeer-Segment": ""})
        mismatched = await pay(foreign)
        seen = await pay(site.payer.headers(info, [1]))
        await site.control(runners={"runner-1": {"ready": False}})
        hidden = await pay(site.payer.headers(info, [2]))

    assert [unknown, unreadable, uncredentialed, mismatched, seen, hidden] == [404, 402, 403, 403, 400, 404]


async def test_sessions_of_two_runners_do_not_meet(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        info = await site.reserve(1)
        elsewhere = await site.post(path_of(info, of=PIXELS), headers=site.payer.headers(info, [2]))
        await site.post(path_of(info, "stop", of=PIXELS))
        places = [session["place"] for session in (await site.status())["sessions"]]

    assert elsewhere == (404, "runner session not found")
    assert places == ["runner-1"]


async def capped(site: Site, info: Any) -> tuple[int, str]:
    await site.control(capped=True)
    return await site.post(path_of(info), headers=site.payer.headers(info, [2]))


async def test_a_capped_orchestrator_takes_no_payments(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        assert await capped(site, await site.reserve(1)) == (403, "OrchestratorCapped")
