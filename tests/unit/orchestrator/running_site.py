"""The orchestrator on a port, with the hand-made world behind it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp.test_utils import TestClient, TestServer, unused_port

from tests.unit.orchestrator.wire import Payer, parse_info
from tests.unit.orchestrator.world import FakeChain, FakeClock, FakeRedeemer, settings
from tilt.orchestrator.app import HEADER_MAX_BYTES, build_web_app

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
        while (await site.status())["head"] is None:
            await asyncio.sleep(0)
        yield site


def path_of(info: Any, action: str = "payment") -> str:
    return f"{SESSION}/{info.auth_token.session_id}/{action}"
