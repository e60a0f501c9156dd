"""The local orchestrator as a process: the official SDK pays it, the real TicketBroker redeems."""

import asyncio
import base64
import json
import math
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from livepeer_gateway.selection import reserve_session

from tests import infra
from tests.unit.orchestrator.wire import Payer, expected_value, parse_info
from tilt.chain import deploy, node
from tilt.chain.local_chain import LocalChain
from tilt.slot import Slot

pytestmark = pytest.mark.anyio

PAYER_KEY = "0x" + "2a" * 32
ORCHESTRATOR_KEY = "0x" + "2b" * 32
APP = "demo/echo"
PATIENCE_SECONDS = 30


@dataclass
class TinySigner:
    """A remote signer of thirty lines (docs/protocol.md §1, §5), good for live jobs only."""

    payer: Payer
    refreshes_asked: int = 0
    requests: list[dict[str, Any]] = field(default_factory=list)

    def web_app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/sign-orchestrator-info", self._sign_info)
        app.router.add_post("/generate-live-payment", self._generate)
        return app

    async def _sign_info(self, _: web.Request) -> web.Response:
        return web.json_response(self.payer.sign_orchestrator_info())

    async def _generate(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.requests.append({"authorization": request.headers.get("Authorization"), **body})
        info = parse_info(body["orchestrator"])
        if time.time() > info.auth_token.expiration - 180:
            self.refreshes_asked += 1
            return self._error(480, "refresh session for remote signer")
        state = json.loads(base64.b64decode(body["state"]["State"])) if "state" in body else {}
        tickets, state = self._next(info, state)
        if not tickets:
            return self._error(482, "no tickets")
        headers = self.payer.headers(info, tickets)
        return web.json_response(
            {
                "payment": headers["Livepeer-Payment"],
                "segCreds": headers["Livepeer-Segment"],
                "state": {"State": base64.b64encode(json.dumps(state).encode()).decode(), "Sig": ""},
            }
        )

    def _next(self, info: Any, state: dict[str, Any]) -> tuple[range, dict[str, Any]]:
        now, rand_hash = time.time(), info.ticket_params.recipient_rand_hash.hex()
        units = math.ceil(now - state["at"]) if state else 10
        price = state.get("price") or f"{info.price_info.pricePerUnit}/{info.price_info.pixelsPerUnit}"
        fee, ev = units * Fraction(price), expected_value(info.ticket_params)
        balance = Fraction(state.get("balance", 0))
        count = math.ceil(max(Fraction(0), max(fee, ev) - balance) / ev)
        nonce = state["nonce"] if state.get("rand_hash") == rand_hash else 0
        after = {
            "at": now,
            "price": price,
            "balance": str(balance + count * ev - fee),
            "nonce": nonce + count,
            "rand_hash": rand_hash,
        }
        return range(nonce + 1, nonce + count + 1), after

    @staticmethod
    def _error(status: int, message: str) -> web.Response:
        return web.json_response({"error": {"message": message}}, status=status)


@dataclass
class Chain:
    rpc_url: str
    directory: Path
    local: LocalChain


@pytest.fixture(scope="module")
def chain(slot: Slot) -> Iterator[Chain]:
    directory = slot.directory / "orchestrator-chain"
    directory.mkdir()
    port = slot.port("chain for the orchestrator")
    rpc_url = f"http://127.0.0.1:{port}"
    with infra.running(node.argv(port=port, directory=directory), directory / "anvil.log"):
        node.wait_until_ready(rpc_url, timeout_seconds=60)
        plan = deploy.Plan(
            payer_key=PAYER_KEY,
            orchestrator_key=ORCHESTRATOR_KEY,
            deposit_wei=10**18,
            reserve_wei=10**18,
        )
        world = deploy.deploy(rpc_url, directory, plan)
        yield Chain(rpc_url, directory, LocalChain(rpc_url, world))


@dataclass
class Orchestrator:
    url: str
    run: Callable[[], AbstractContextManager[object]]

    async def status(self) -> Any:
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/status") as response:
            return await response.json()

    async def control(self, **changes: Any) -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.url}/control", json=changes) as response,
        ):
            assert response.status == 200

    async def post(self, url: str, headers: dict[str, str]) -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.post(url, headers=headers) as response:
            return response.status, await response.text(errors="replace")

    async def until_ready(self) -> None:
        async def ready() -> bool:
            try:
                return (await self.status())["head"] is not None
            except aiohttp.ClientError:
                return False

        await until(ready)

    async def reserve(self, payer: Payer, *nonces: int) -> tuple[str, Any]:
        """Reserve without an SDK; return the payment URL and the quote."""
        runner = f"{self.url}/apps/runner-1/session"
        _, text = await self.post(runner, {"Livepeer-Payer-Address": payer.address})
        challenge = json.loads(text)
        info = parse_info(challenge["payment_params"])
        status, text = await self.post(runner, payer.headers(info, nonces))
        assert status == 200, text
        return challenge["payment_url"], info


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not await condition():
        assert time.monotonic() < deadline, "waited for too long"
        await asyncio.sleep(0.1)


@pytest.fixture
def orchestrator(chain: Chain, directory: Path, slot: Slot) -> Orchestrator:
    port, key_file = slot.port("orchestrator under test"), directory / "key"
    key_file.write_text(ORCHESTRATOR_KEY + "\n")
    arguments = {
        "--port": port,
        "--rpc": chain.rpc_url,
        "--world": chain.directory / "world.json",
        "--key-file": key_file,
        "--state-dir": directory / "state",
        "--app": APP,
    }
    argv = [
        sys.executable,
        "-m",
        "tilt.orchestrator",
        *(str(word) for pair in arguments.items() for word in pair),
    ]
    return Orchestrator(
        f"http://127.0.0.1:{port}", lambda: infra.running(argv, directory / "orchestrator.log")
    )


@asynccontextmanager
async def signing() -> AsyncIterator[tuple[TinySigner, str]]:
    signer = TinySigner(Payer(PAYER_KEY))
    server = TestServer(signer.web_app())
    await server.start_server()
    try:
        yield signer, str(server.make_url("/")).rstrip("/")
    finally:
        await server.close()


async def test_the_sdk_reserves_pays_and_stops(orchestrator: Orchestrator) -> None:
    key = {"Authorization": "Bearer key"}
    with orchestrator.run():
        await orchestrator.until_ready()
        async with signing() as (signer, signer_url):
            session = await reserve_session(
                signer_url=signer_url, signer_headers=key, orchestrators=[orchestrator.url], app=APP
            )
            async with session:
                await until(lambda: payments(orchestrator, 4))
                running = await orchestrator.status()
            ended = await orchestrator.status()

    assert ended["rejected"] == ended["refused"] == []
    assert [ticket["nonce"] for ticket in ended["accepted"]] == [*range(1, len(ended["accepted"]) + 1)]
    assert {ticket["manifest_id"] for ticket in ended["accepted"]} == {session.session_id}
    assert [live["session_id"] for live in running["sessions"]] == [session.session_id]
    assert [over["release_reason"] for over in ended["released"]] == ["stopped"]
    assert {request["authorization"] for request in signer.requests} == {"Bearer key"}
    assert {request["app"] for request in signer.requests} == {APP}


async def test_the_sdk_refreshes_quotes_that_expire(orchestrator: Orchestrator) -> None:
    with orchestrator.run():
        await orchestrator.until_ready()
        await orchestrator.control(expire_params=True)
        async with (
            signing() as (signer, signer_url),
            await reserve_session(signer_url=signer_url, orchestrators=[orchestrator.url], app=APP),
        ):
            await until(lambda: payments(orchestrator, 3))
            status = await orchestrator.status()

    assert signer.refreshes_asked
    assert status["rejected"] == status["refused"] == []
    assert len({ticket["recipient_rand_hash"] for ticket in status["accepted"]}) > 1


async def payments(orchestrator: Orchestrator, count: int) -> bool:
    return bool((await orchestrator.status())["counters"]["payments_accepted"] >= count)


async def test_winners_are_redeemed_across_a_restart(orchestrator: Orchestrator, chain: Chain) -> None:
    payer = Payer(PAYER_KEY)
    with orchestrator.run():
        await orchestrator.until_ready()
        payment_url, info = await orchestrator.reserve(payer, *range(1, 41))
        won = (await orchestrator.status())["winners"]
    before = chain.local.sender_info(payer.address).deposit
    chain.local.mine(40)

    with orchestrator.run():
        await orchestrator.until_ready()
        await until(lambda: redeemed(orchestrator, len(won)))
        status = await orchestrator.status()
        repeated = await orchestrator.post(payment_url, payer.headers(info, [1]))

    assert won
    assert all(winner["redeemed_tx"] is None for winner in won)
    assert {winner["ticket_hash"] for winner in won} == {
        winner["ticket_hash"] for winner in status["winners"]
    }
    for winner in status["winners"]:
        assert chain.local.used_tickets(bytes.fromhex(winner["ticket_hash"][2:]))
        assert chain.local.web3.eth.get_transaction_receipt(winner["redeemed_tx"])["status"] == 1
    paid = sum(int(winner["ticket"]["face_value"]) for winner in won)
    assert before - chain.local.sender_info(payer.address).deposit == paid
    assert repeated[0] == 404  # sessions do not outlive a restart


async def redeemed(orchestrator: Orchestrator, count: int) -> bool:
    return bool((await orchestrator.status())["counters"]["winners_redeemed"] == count)


UNLOCKING = (400, "unable to validate sender: deposit and reserve is set to unlock soon\n")


async def test_a_payer_about_to_withdraw_is_refused(orchestrator: Orchestrator, chain: Chain) -> None:
    payer = Payer(PAYER_KEY)
    with orchestrator.run():
        await orchestrator.until_ready()
        payment_url, info = await orchestrator.reserve(payer, *range(1, 41))
        chain.local.unlock(PAYER_KEY)
        chain.local.initialize_next_round()

        nonces = count(41)

        async def is_refused() -> bool:  # once it has looked at the round and at the payer's funds again
            return await orchestrator.post(payment_url, payer.headers(info, [next(nonces)])) == UNLOCKING

        await until(is_refused)
        chain.local.cancel_unlock(PAYER_KEY)
