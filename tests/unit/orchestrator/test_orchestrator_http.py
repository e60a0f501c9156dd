"""The HTTP side: routes, statuses and their order, and the steering that tests use."""

from pathlib import Path
from typing import Any

import pytest
from livepeer_gateway import lp_rpc_pb2 as net

from tests.unit.orchestrator.running_site import SESSION, path_of, running
from tests.unit.orchestrator.wire import headers, parse_info

pytestmark = pytest.mark.anyio


async def test_discovery_shows_one_runner_with_its_price(tmp_path: Path) -> None:
    async with running(tmp_path) as site, site.client.get("/discovery?app=x&caps=y") as response:
        [entry] = await response.json()

    [runner] = entry["runners"]
    assert runner["app"] == "demo/echo"
    assert runner["mode"] == "persistent"
    assert runner["price_info"] == {"price": 30, "currency": "wei", "unit": "seconds"}
    assert runner["url"].startswith(entry["address"])
    assert (runner["capacity"], runner["capacity_used"], runner["capacity_available"]) == (2, 0, 2)


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
    assert "invalid address" in text
    assert "payment_params" not in text


async def test_a_session_is_reserved_used_refreshed_and_stopped(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        info = await site.reserve(1)
        sender, manifest_id = site.payer.address, info.auth_token.session_id
        refresh = {"sender": sender, "manifest_id": manifest_id}

        paid = await site.post(path_of(info), headers=site.payer.headers(info, [2]))
        echoed = await site.post(path_of(info, "app"), data="hello")
        async with site.client.post("/refresh-payment", json=refresh) as response:
            fresh = parse_info((await response.json())["payment_params"])
        paid_anew = await site.post(path_of(info), headers=site.payer.headers(fresh, [1]))
        stopped = await site.post(path_of(info, "stop"))
        after = [
            (await site.post(path_of(info), headers=site.payer.headers(fresh, [2])))[0],
            (await site.post(path_of(info, "app")))[0],
            (await site.post(path_of(info, "stop")))[0],
            (await site.post("/refresh-payment", json=refresh))[0],
        ]
        status = await site.status()

    assert [paid[0], echoed, paid_anew[0], stopped] == [200, (200, "hello"), 200, (200, "{}")]
    assert after == [404, 404, 404, 404]
    assert fresh.auth_token.session_id == manifest_id
    assert [released["release_reason"] for released in status["released"]] == ["stopped"]
    assert [record["nonce"] for record in status["accepted"]] == [1, 2, 1]
    assert status["counters"]["tickets_accepted"] == 3
    assert [(refused["status"], refused["reason"]) for refused in status["refused"]] == [
        (404, "session not found")
    ]


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

    assert answer == (404, "session not found")


async def test_a_full_runner_and_a_repeated_reservation(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        info = await site.reserve(1)
        again = await site.post(SESSION, headers=site.payer.headers(info, [2]))
        await site.reserve(1)
        _, third = await site.challenge()
        full = await site.post(SESSION, headers=site.payer.headers(third, [1]))

    assert again == (409, "session already exists")
    assert full == (503, "no capacity")


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


async def test_tests_can_change_the_terms(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        changed = await site.control(
            ticket_ev_wei=1000, face_value_wei=5000, price_per_unit=77, params_life_blocks=3
        )
        _, info = await site.challenge()

    assert changed == 200
    assert int.from_bytes(info.ticket_params.face_value) == 5000
    assert info.price_info.pricePerUnit == 77
    assert int.from_bytes(info.ticket_params.expiration_block) == 1003


async def test_tests_can_make_quotes_short_lived_and_long_lived_again(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        await site.control(expire_params=True)
        _, short = await site.challenge()
        await site.control(expire_params=False)
        _, long = await site.challenge()

    refresh_below_seconds = 180
    now = int(site.clock.now)
    assert refresh_below_seconds < short.auth_token.expiration - now < refresh_below_seconds + 3
    assert long.auth_token.expiration - now == 1800


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


@pytest.mark.parametrize(
    "change",
    [
        {"ticket_ev_wei": 0},
        {"ticket_ev_wei": 400},
        {"ticket_ev_wei": "7"},
        {"face_value_wei": 100},
        {"price_per_unit": -1},
        {"new_secret": 1},
        {"no_such_thing": True},
    ],
)
async def test_terms_that_make_no_sense_change_nothing(tmp_path: Path, change: dict[str, Any]) -> None:
    async with running(tmp_path) as site:
        before = (await site.status())["terms"]

        status = await site.control(**change)

        assert status == 400
        assert (await site.status())["terms"] == before


async def test_status_can_be_kept_short(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        await site.reserve(*range(1, 10))
        async with site.client.get("/status?limit=2") as short:
            status = await short.json()

    assert [record["nonce"] for record in status["accepted"]] == [8, 9]
    assert status["counters"]["tickets_accepted"] == 9
