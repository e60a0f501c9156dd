"""Live video, payments beside it, and segments: what is credited to which manifest."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from livepeer_gateway import lp_rpc_pb2 as net

from tests.unit.orchestrator.running_site import Site, running
from tests.unit.orchestrator.wire import expected_value, headers
from tests.unit.orchestrator.world import EV, PIXEL_PRICE, PIXELS_PER_PRICE
from tilt.orchestrator.terms import Price

pytestmark = pytest.mark.anyio

START = "/live-video-to-video"
FLOW = "live-video-to-video/flow"
PIXELS_PER_SECOND = 27_648_000


async def start(site: Site, *nonces: int) -> tuple[Any, dict[str, str]]:
    info = await site.quote()
    shown = site.payer.headers(info, nonces, manifest_id="made-by-the-signer")
    status, text = await site.post(START, headers=shown, json={"model_id": "flow"})
    assert status == 200, text
    return info, json.loads(text)


async def test_a_stream_is_credited_under_the_manifest_that_it_is_given(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        info, started = await start(site, 1, 2)
        manifest = await site.manifest(started["manifest_id"])
        status = await site.status()

    assert len(status["manifests"]) == 1
    assert (manifest["kind"], manifest["place"], manifest["active"]) == ("live-video-to-video", FLOW, True)
    assert Fraction(manifest["balance"]) == 2 * expected_value(info.ticket_params)
    assert started["publish_url"] == f"{status['url']}/ai/trickle/{started['manifest_id']}"


async def test_a_stream_is_metered_in_pixels_and_released_when_it_is_not_paid_on(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        info, started = await start(site, *range(1, 21))
        await site.after(4.75)
        early = await site.manifest(started["manifest_id"])
        await site.after(0.25)
        metered = await site.manifest(started["manifest_id"])
        shown = site.payer.headers(info, [21], manifest_id=started["manifest_id"])
        paid, _ = await site.post("/payment", headers=shown)
        await site.after(10)
        ended = await site.manifest(started["manifest_id"])
        late, _ = await site.post(
            "/payment", headers=site.payer.headers(info, [22], manifest_id=started["manifest_id"])
        )

    price = Fraction(PIXEL_PRICE, PIXELS_PER_PRICE)
    assert early["units"] == 0
    assert metered["units"] == 5 * PIXELS_PER_SECOND
    assert Fraction(metered["debited"]) == metered["units"] * price
    assert (paid, late) == (200, 200)  # go-livepeer takes money for a stream that is no more, too
    assert (ended["tickets"], ended["release_reason"]) == (21, "insufficient balance")


async def test_a_stream_needs_a_ticket_on_its_balance(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        info = await site.quote()
        await site.control(ticket_ev_wei=EV + 2)
        poor = await site.post(START, headers=site.payer.headers(info, [1]), json={"model_id": "flow"})
        rich, _ = await site.post(START, headers=site.payer.headers(info, [2, 3]), json={"model_id": "flow"})

    assert poor == (400, "Insufficient balance")
    assert rich == 200


async def test_what_is_free_is_neither_gated_nor_metered(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        info = await site.quote(Price(0))
        status, _ = await site.post(START, headers=site.payer.headers(info, []), json={"model_id": "flow"})
        await site.after(3600)
        [session] = (await site.status())["sessions"]

    assert status == 200
    assert session["balance"] == "0"


async def test_the_order_of_refusals_at_a_start_is_go_livepeers(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        info = await site.quote()
        good = site.payer.headers(info, [1])
        bad = {"Livepeer-Payment": "%%%", "Livepeer-Segment": "%%%"}
        answers = [
            await site.post(START, headers=bad, data="["),
            await site.post(START, headers=bad, json={"model_id": ""}),
            await site.post(START, headers=bad, json={"model_id": "other"}),
            await site.post(START, headers=bad, json={"model_id": "flow"}),
            await site.post(START, headers={**good, "Livepeer-Segment": ""}, json={"model_id": "flow"}),
            await site.post(START, headers=good, json={"model_id": "flow"}),
            await site.post(START, headers=good, json={"model_id": "flow"}),
        ]
        await site.control(models={FLOW: {"capacity": 1}})
        answers.append(await site.post(START, headers=bad, json={"model_id": "flow"}))

    assert [status for status, _ in answers] == [400, 400, 503, 402, 403, 200, 400, 503]
    assert answers[-1] == (503, "insufficient capacity")


async def test_a_stream_ends_with_its_input(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        _, started = await start(site, 1)
        for channel in ("control_url", "publish_url"):
            async with site.client.delete(started[channel]) as response:
                assert response.status == 200
        manifest = await site.manifest(started["manifest_id"])
        async with site.client.get(f"{started['subscribe_url']}/-2") as response:
            gone = response.status

    assert (manifest["active"], manifest["release_reason"]) == (False, "stopped")
    assert gone == 404


async def test_output_comes_by_the_clock(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        _, started = await start(site, *range(1, 41))
        url = started["subscribe_url"]

        async def get(index: object) -> tuple[int, str | None, str | None]:
            async with site.client.get(f"{url}/{index}") as response:
                shown = response.headers
                return response.status, shown.get("Lp-Trickle-Seq"), shown.get("Lp-Trickle-Latest")

        first = await get(-2)
        site.clock.now += 9.5
        answers = [await get(index) for index in (-2, 9, 4, 3, 11, "x")]

    assert first == (200, "0", "0")
    assert answers == [
        (200, "9", "9"),
        (200, "9", "9"),
        (200, "4", "9"),
        (470, None, "9"),
        (470, None, "9"),
        (400, None, None),
    ]


async def test_what_is_published_is_taken_and_dropped(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        _, started = await start(site, 1)
        answers = [
            await site.post(started["publish_url"]),
            await site.post(f"{started['publish_url']}/0", data=b"x" * 100_000),
            await site.post(f"{started['control_url']}/-1", data=b"{}"),
            await site.post("/ai/trickle/deadbeef/0"),
        ]

    assert [status for status, _ in answers] == [200, 200, 200, 404]


async def test_a_payment_credits_the_manifest_of_its_credentials(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        info = await site.quote()
        shown = site.payer.headers(info, [1, 2], manifest_id="whatever")
        status, body = await site.post_raw("/payment", headers=shown)
        manifest = await site.manifest("whatever")

    result = net.PaymentResult.FromString(body)
    assert status == 200
    assert result.info.auth_token == info.auth_token
    assert result.info.ticket_params.recipient_rand_hash != info.ticket_params.recipient_rand_hash
    assert result.info.price_info.pricePerUnit == 7  # no capabilities were named: the base price
    assert (manifest["kind"], manifest["tickets"], manifest["place"]) == ("payment", 2, None)


async def test_a_payment_is_quoted_anew_for_the_models_it_names(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        info = await site.quote()
        segment = site.payer.segment(info, "whatever")
        segment.capabilities.capacities[35] = 1
        segment.capabilities.constraints.PerCapability[35].models["flow"].SetInParent()
        _, body = await site.post_raw("/payment", headers=headers(site.payer.payment(info, [1]), segment))

    assert net.PaymentResult.FromString(body).info.price_info == info.price_info


@pytest.mark.parametrize(("broken", "status"), [("Livepeer-Payment", 402), ("Livepeer-Segment", 403)])
async def test_a_payment_needs_both_headers(tmp_path: Path, broken: str, status: int) -> None:
    async with running(tmp_path) as site:
        shown = site.payer.headers(await site.quote(), [1])
        answers = [
            await site.post("/payment", headers={**shown, broken: "%%%"}),
            await site.post("/segment", headers={**shown, broken: "%%%"}),
        ]

    assert [answer[0] for answer in answers] == [status, status]


@pytest.mark.parametrize("seq", [0, 1, 300, 2**40])
async def test_a_segment_credits_the_session_of_its_token(tmp_path: Path, seq: int) -> None:
    async with running(tmp_path) as site:
        info = await site.quote()
        segment = site.payer.segment(info, "whatever", seq=seq, body=b"video")
        shown = headers(site.payer.payment(info, [1]), segment)
        status, body = await site.post_raw("/segment", headers=shown, data=b"video")
        manifest = await site.manifest(info.auth_token.session_id)

    result = net.TranscodeResult.FromString(body)
    assert status == 200
    assert (result.seq, result.WhichOneof("result"), list(result.data.segments)) == (seq, "data", [])
    assert result.info.auth_token == info.auth_token
    assert (manifest["kind"], manifest["tickets"]) == ("segment", 1)


async def test_a_segment_must_be_the_one_that_was_signed_and_paid(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        info = await site.quote()
        other = await site.post("/segment", headers=site.payer.headers(info, [1]), data=b"other video")
        await site.control(ticket_ev_wei=EV + 2)
        poor = await site.post("/segment", headers=site.payer.headers(await site.quote(), []))

    assert other == (403, "Forbidden")
    assert poor == (400, "Insufficient balance")
