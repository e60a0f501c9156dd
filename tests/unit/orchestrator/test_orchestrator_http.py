"""The HTTP side: statuses, their order, and that no input makes it stumble."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer, unused_port
from livepeer_gateway import lp_rpc_pb2 as net  # type: ignore[import-untyped]

from tests.unit.orchestrator.wire import Payer, headers, parse_info
from tests.unit.orchestrator.world import FakeChain, FakeClock, FakeRedeemer, settings
from tilt.orchestrator.app import HEADER_MAX_BYTES, build_web_app

pytestmark = pytest.mark.anyio

SESSION = "/apps/runner-1/session"


@dataclass
class Site:
    """A running orchestrator and a payer who speaks HTTP."""

    client: TestClient[Any, Any]
    payer: Payer
    chain: FakeChain
    clock: FakeClock

    async def post(self, path: str, **request: Any) -> tuple[int, str]:
        async with self.client.post(path, **request) as response:
            return response.status, (await response.text(errors="replace")).strip()

    async def status(self) -> Any:
        async with self.client.get("/status") as response:
            return await response.json()

    async def control(self, **changes: Any) -> int:
        async with self.client.post("/control", json=changes) as response:
            return response.status

    async def challenge(self) -> tuple[dict[str, Any], Any]:
        who = {"Livepeer-Payer-Address": self.payer.address}
        async with self.client.post(SESSION, headers=who, json={}) as response:
            assert response.status == 402
            body = await response.json()
            return body, parse_info(body["payment_params"])

    async def reserve(self, *nonces: int) -> Any:
        _, info = await self.challenge()
        status, _ = await self.post(SESSION, headers=self.payer.headers(info, nonces), json={})
        assert status == 200
        return info


@asynccontextmanager
async def running(state_dir: Path) -> AsyncIterator[Site]:
    port, chain, clock = unused_port(), FakeChain(), FakeClock()
    app = build_web_app(settings(state_dir, port=port), chain=chain, redeemer=FakeRedeemer(), clock=clock)
    server = TestServer(app, port=port)
    await server.start_server(max_field_size=HEADER_MAX_BYTES, max_line_size=HEADER_MAX_BYTES)
    async with TestClient(server) as client:
        site = Site(client, Payer(), chain, clock)
        while (await site.status())["head"] is None:  # noqa: ASYNC110 - seen through HTTP only
            await asyncio.sleep(0)
        yield site


def path_of(info: Any, action: str = "payment") -> str:
    return f"{SESSION}/{info.auth_token.session_id}/{action}"


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


GARBAGE = ["%%%", "a", "é", "AAAA", base64.b64encode(b"\xff" * 50).decode(), "CgA=" * 1000]


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_a_payment_that_cannot_be_read_is_402(tmp_path: Path, garbage: str) -> None:
    async with running(tmp_path) as site:
        info = await site.reserve(1)
        good = site.payer.headers(info, [2])

        reserved, _ = await site.post(SESSION, headers={**good, "Livepeer-Payment": garbage})
        paid, _ = await site.post(path_of(info), headers={**good, "Livepeer-Payment": garbage})

    # What happens to be valid protobuf has no sender, so nobody signed its segment.
    assert (reserved, paid) in {(402, 402), (403, 403)}


@pytest.mark.parametrize("garbage", ["", *GARBAGE])
async def test_a_segment_that_cannot_be_read_is_403(tmp_path: Path, garbage: str) -> None:
    async with running(tmp_path) as site:
        info = await site.reserve(1)
        good = site.payer.headers(info, [2])

        reserved, _ = await site.post(SESSION, headers={**good, "Livepeer-Segment": garbage})
        paid, _ = await site.post(path_of(info), headers={**good, "Livepeer-Segment": garbage})

    assert (reserved, paid) == (403, 403)


async def test_bad_base64_in_the_segment_has_a_name(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        info = await site.reserve(1)
        mixed = {**site.payer.headers(info, [2]), "Livepeer-Segment": "%%%"}

        assert await site.post(path_of(info), headers=mixed) == (403, "ErrorSegEncoding")


def _expire(segment: Any) -> None:
    segment.auth_token.expiration -= 1


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda segment: setattr(segment, "duration", -1), "invalid duration"),
        (lambda segment: setattr(segment, "duration", 300_001), "invalid duration"),
        (lambda segment: setattr(segment, "sig", bytes(65)), "ErrSegSig"),
        (lambda segment: setattr(segment, "sig", b""), "ErrSegSig"),
        (lambda segment: setattr(segment, "seq", 1), "ErrSegSig"),
        (lambda segment: setattr(segment, "seq", -1), "ErrSegSig"),
        (lambda segment: setattr(segment, "manifestId", b"\xff"), "ErrSegSig"),
        (lambda segment: segment.capabilities.bitstring.append(1), "incompatible capabilities"),
        (lambda segment: segment.ClearField("auth_token"), "missing auth token"),
        (lambda segment: setattr(segment.auth_token, "session_id", "00000000"), "invalid auth token"),
        (lambda segment: setattr(segment.auth_token, "token", b""), "invalid auth token"),
        (_expire, "invalid auth token"),
    ],
)
async def test_segment_credentials_are_checked(tmp_path: Path, change: Any, text: str) -> None:
    async with running(tmp_path) as site:
        info = await site.reserve(1)
        segment = site.payer.segment(info, info.auth_token.session_id)
        change(segment)

        answer = await site.post(path_of(info), headers=headers(site.payer.payment(info, [2]), segment))

    assert answer == (403, text)


async def test_capabilities_of_live_jobs_are_compatible(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        info = await site.reserve(1)
        segment = site.payer.segment(info, info.auth_token.session_id)
        segment.capabilities.bitstring.append(1 << 35 | 1 << 12)

        status, _ = await site.post(path_of(info), headers=headers(site.payer.payment(info, [2]), segment))

    assert status == 200


async def test_an_expired_token_reserves_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        _, info = await site.challenge()
        site.clock.now = info.auth_token.expiration + 1
        late = await site.post(SESSION, headers=site.payer.headers(info, [1]))
        site.clock.now = info.auth_token.expiration
        in_time, _ = await site.post(SESSION, headers=site.payer.headers(info, [1]))

    assert late == (403, "expired auth token")
    assert in_time == 200


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
