"""The HTTP side: discovery, and a session of the first runner from its challenge to its end."""

import json
from pathlib import Path
from typing import Any

import pytest
from livepeer_gateway import lp_rpc_pb2 as net

from tests.unit.orchestrator.running_site import SESSION, Site, path_of, running
from tests.unit.orchestrator.wire import headers, parse_info

pytestmark = pytest.mark.anyio


async def test_discovery_shows_each_runner_as_gateways_read_it(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        [entry] = await site.get("/discovery?app=x&caps=y")

    runner, pixels, once, ticket = entry["runners"]
    assert entry["capabilities"] == ["demo/echo", "demo/once", "demo/pixels", "demo/ticket"]
    assert runner == {
        "url": f"{entry['address']}/apps/runner-1/session",
        "app": "demo/echo",
        "mode": "persistent",
        "capacity": 2,
        "capacity_used": 0,
        "capacity_available": 2,
        "price_info": {"price": 30, "currency": "wei", "unit": "seconds"},
    }
    assert pixels["price_info"]["unit"] == "720p-pixel-seconds"
    assert (once["url"], once["mode"]) == (f"{entry['address']}/apps/once/app", "single-shot")
    assert once["price_info"] == {"price": 250, "currency": "wei", "unit": "fixed"}
    assert ticket["mode"] == "persistent"


async def test_discovery_tells_what_is_known_of_a_runner_and_hides_one_that_is_not_ready(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as site:
        await site.reserve(1)
        await site.control(
            runners={
                "runner-1": {"version": "1.0", "metadata": "m", "gpu": {"id": "0", "vram_mb": 1}},
                "once": {"ready": False},
            }
        )
        [entry] = await site.get("/discovery")

    runner = entry["runners"][0]
    assert [runner["app"] for runner in entry["runners"]] == ["demo/echo", "demo/pixels", "demo/ticket"]
    assert (runner["version"], runner["metadata"], runner["gpu"]) == ("1.0", "m", {"id": "0", "vram_mb": 1})
    assert (runner["capacity_used"], runner["capacity_available"]) == (1, 1)


async def test_a_call_without_payment_is_challenged(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        body, info = await site.challenge()

    assert set(body) == {"payment_params", "manifest_id", "payment_url", "orchestrator"}
    assert body["manifest_id"] == info.auth_token.session_id
    assert body["payment_url"] == f"{body['orchestrator']}{path_of(info)}"
    assert info.transcoder == body["orchestrator"]


@pytest.mark.parametrize("address", ["", "0x12", "nobody", "0x" + "z" * 40])
async def test_a_challenge_needs_a_payers_address(tmp_path: Path, address: str) -> None:
    async with running(tmp_path) as site:
        status, text = await site.post(SESSION, headers={"Livepeer-Payer-Address": address})

    assert status == 402
    assert json.loads(text) == {"error": {"message": "invalid live runner payment signer address"}}


async def test_a_session_is_reserved_used_refreshed_and_stopped(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        info = await site.reserve(1)
        paid, _ = await site.post(path_of(info), headers=site.payer.headers(info, [2]))
        echoed = await site.post(path_of(info, "app"), data="hello")
        deeper = await site.post(f"{path_of(info, 'app')}/some/where", data="there")
        fresh = await refreshed(site, info)
        paid_anew, _ = await site.post(path_of(info), headers=site.payer.headers(fresh, [1]))
        stopped = await site.post(path_of(info, "stop"))
        after = [
            (await site.post(path_of(info), headers=site.payer.headers(fresh, [2])))[0],
            (await site.post(path_of(info, "app")))[0],
            (await site.post(path_of(info, "stop")))[0],
        ]
        status = await site.status()

    assert (paid, paid_anew, stopped) == (200, 200, (204, ""))
    assert (echoed, deeper) == ((200, "hello"), (200, "there"))
    assert after == [404, 404, 204]
    assert fresh.auth_token.session_id == info.auth_token.session_id
    assert [released["release_reason"] for released in status["released"]] == ["stopped"]
    assert [record["nonce"] for record in status["accepted"]] == [1, 2, 1]
    assert status["counters"]["tickets_accepted"] == 3
    assert status["refused"] == [
        {
            "path": path_of(info),
            "status": 404,
            "reason": "runner session not found",
            "manifest_id": info.auth_token.session_id,
        }
    ]


async def refreshed(site: Site, info: Any) -> Any:
    body = {"sender": site.payer.address, "manifest_id": info.auth_token.session_id}
    status, text = await site.post("/refresh-payment", json=body)
    challenge = json.loads(text)
    assert status == 200
    assert challenge["manifest_id"] == info.auth_token.session_id
    assert challenge["payment_url"] == f"{challenge['orchestrator']}/payment"
    return parse_info(challenge["payment_params"])


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ({"manifest_id": "deadbeef"}, (400, "invalid sender")),
        ({"sender": "0x12", "manifest_id": "deadbeef"}, (400, "invalid sender")),
        ({"sender": "0x" + "11" * 20}, (400, "missing manifest_id")),
        ({"sender": "0x" + "11" * 20, "manifest_id": " "}, (400, "missing manifest_id")),
        ({"sender": "0x" + "11" * 20, "manifest_id": "ab"}, (409, "fixed price not found for session")),
    ],
)
async def test_a_refresh_needs_a_sender_and_a_manifest_it_paid_for(
    tmp_path: Path, body: dict[str, str], answer: tuple[int, str]
) -> None:
    async with running(tmp_path) as site:
        status, text = await site.post("/refresh-payment", json=body)

    assert (status, json.loads(text)["error"]["message"]) == answer


async def test_a_payment_is_answered_with_a_payment_result(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        info = await site.reserve(1)
        async with site.client.post(path_of(info), headers=site.payer.headers(info, [2])) as response:
            body = await response.read()

    result = net.PaymentResult()
    result.ParseFromString(body)
    assert result.info.auth_token == info.auth_token
    assert result.info.ticket_params.recipient == info.address


async def test_a_hundred_tickets_fit_into_the_header(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        await site.reserve(*range(1, 101))

        assert (await site.status())["counters"]["tickets_accepted"] == 100


async def test_a_manifest_must_be_its_tokens_session(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        _, info = await site.challenge()
        other = headers(site.payer.payment(info, [1]), site.payer.segment(info, "deadbeef"))

        reserved = await site.post(SESSION, headers=other)
        info = await site.reserve(1)
        other = headers(site.payer.payment(info, [2]), site.payer.segment(info, "deadbeef"))
        paid = await site.post(path_of(info), headers=other)

    assert reserved == (403, "mismatched manifest and auth token")
    assert paid[0] == 403


async def test_an_unknown_session_comes_before_bad_headers(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        answer = await site.post(f"{SESSION}/deadbeef/payment", headers={"Livepeer-Payment": "%%%"})

    assert answer == (404, "runner session not found")


async def test_a_full_runner_and_a_repeated_reservation(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        info = await site.reserve(1)
        again = await site.post(SESSION, headers=site.payer.headers(info, [2]))
        await site.reserve(1)
        _, third = await site.challenge()
        full = await site.post(SESSION, headers=site.payer.headers(third, [1]))

    assert again == (409, "session already exists")
    assert full == (503, "no capacity available for runner")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"sender": 7}', b'{"sender": "0x1"}']
)
async def test_a_refresh_or_control_that_cannot_be_read_is_400(tmp_path: Path, body: bytes) -> None:
    kind = {"Content-Type": "application/json; charset=no-such-thing"}
    async with running(tmp_path) as site:
        refreshed, _ = await site.post("/refresh-payment", data=body, headers=kind)
        controlled, _ = await site.post("/control", data=body, headers=kind)

    assert (refreshed, controlled) == (400, 400)


async def test_a_reservation_before_the_chain_is_seen_is_503(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        _, info = await site.challenge()
        site.chain.is_down = True
        stranger = {"Livepeer-Payer-Address": "0x" + "11" * 20}

        known, _ = await site.post(SESSION, headers=site.payer.headers(info, [1]))
        unknown, _ = await site.post(SESSION, headers=stranger)

    assert (known, unknown) == (200, 503)
