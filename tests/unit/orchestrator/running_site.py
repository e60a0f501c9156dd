"""The orchestrator on its ports, with the hand-made world behind it."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp.test_utils import unused_port

from tests.unit.orchestrator.wire import Payer, parse_info
from tests.unit.orchestrator.world import (
    PIXEL_PRICE,
    PIXELS_PER_PRICE,
    FakeChain,
    FakeClock,
    FakeRedeemer,
    sdk_message,
    settings,
)
from tilt.orchestrator import app
from tilt.orchestrator.addresses import parse_address
from tilt.orchestrator.orchestrator import Orchestrator
from tilt.orchestrator.terms import Price

SESSION = "/apps/runner-1/session"
PIXELS = "/apps/pixels/session"
ONCE = "/apps/once/app"
PIXELS_PRICE = Price(PIXEL_PRICE, PIXELS_PER_PRICE)
PATIENCE = aiohttp.ClientTimeout(total=60)


@dataclass
class Site:
    """A running orchestrator and a payer who speaks HTTP."""

    client: aiohttp.ClientSession
    payer: Payer
    chain: FakeChain
    clock: FakeClock
    orchestrator: Orchestrator

    @property
    def tls_url(self) -> str:
        assert self.orchestrator.tls_url is not None
        return self.orchestrator.tls_url

    async def post(self, path: str, **request: Any) -> tuple[int, str]:
        status, body = await self.post_raw(path, **request)
        return status, body.decode(errors="replace").strip()

    async def post_raw(self, path: str, **request: Any) -> tuple[int, bytes]:
        async with self.client.post(path, **request) as response:
            return response.status, await response.read()

    async def get(self, path: str) -> Any:
        async with self.client.get(path) as response:
            return await response.json()

    async def status(self) -> Any:
        return await self.get("/status")

    async def manifest(self, manifest_id: str) -> Any:
        [found] = [one for one in (await self.status())["manifests"] if one["manifest_id"] == manifest_id]
        return found

    async def control(self, **changes: Any) -> int:
        async with self.client.post("/control", json=changes) as response:
            return response.status

    async def challenge(self, path: str = SESSION) -> tuple[dict[str, Any], Any]:
        who = {"Livepeer-Payer-Address": self.payer.address}
        async with self.client.post(path, headers=who, json={}) as response:
            assert response.status == 402
            body = await response.json()
            return body, parse_info(body["payment_params"])

    async def reserve(self, *nonces: int, path: str = SESSION) -> Any:
        _, info = await self.challenge(path)
        status, text = await self.post(path, headers=self.payer.headers(info, nonces), json={})
        assert status == 200, text
        return info

    async def quote(self, price: Price = PIXELS_PRICE) -> Any:
        """Quote as GetOrchestrator does, for a session that nobody has reserved."""
        orchestrator = self.orchestrator
        info = await orchestrator.quote(
            parse_address(self.payer.address), "0badcafe", price=price, origin=orchestrator.url
        )
        return sdk_message(info)

    async def after(self, seconds: float) -> None:
        """Let time pass, and what is due be debited."""
        self.clock.now += seconds
        self.orchestrator.sessions.debit(self.clock())


@asynccontextmanager
async def running(state_dir: Path, *, tls: bool = False, **changes: Any) -> AsyncIterator[Site]:
    chain, clock = FakeChain(), FakeClock()
    ports = {"port": unused_port(), "tls_port": unused_port() if tls else None}
    chosen = settings(state_dir, **{**ports, **changes})
    async with (
        app.running(chosen, chain=chain, redeemer=FakeRedeemer(), clock=clock) as orchestrator,
        aiohttp.ClientSession(chosen.url, timeout=PATIENCE) as client,
    ):
        site = Site(client, Payer(), chain, clock, orchestrator)
        while (await site.status())["head"] is None:
            await asyncio.sleep(0)
        yield site


def path_of(info: Any, action: str = "payment", *, of: str = SESSION) -> str:
    return f"{of}/{info.auth_token.session_id}/{action}"


def trusting_anybody() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
