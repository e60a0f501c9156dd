"""A remote signer of a page, which pays for so many seconds at each request, or for one call (§1, §5)."""

import base64
import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.unit.orchestrator.wire import Payer, expected_value, parse_info

UNITS_PER_SECOND = {"live": 1, "lv2v": 27_648_000}
TICKETS_MAX = 100


@dataclass
class SmallSigner:
    payer: Payer
    seconds: int = 60  # what each request pays for
    requests: list[dict[str, Any]] = field(default_factory=list)
    quotes: list[Any] = field(default_factory=list)

    def web_app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/sign-orchestrator-info", self._sign_info)
        app.router.add_post("/generate-live-payment", self._generate)
        return app

    async def _sign_info(self, _: web.Request) -> web.Response:
        return web.json_response(self.payer.sign_orchestrator_info())

    async def _generate(self, request: web.Request) -> web.Response:
        body = await request.json()
        info = parse_info(body["orchestrator"])
        self.requests.append(body)
        self.quotes.append(info)
        price = Fraction(info.price_info.pricePerUnit, info.price_info.pixelsPerUnit)
        units = 1 if body["type"] == "fixed" else self.seconds * UNITS_PER_SECOND[body["type"]]
        fee = units * price
        tickets = min(TICKETS_MAX, math.ceil(fee / expected_value(info.ticket_params)))
        last = json.loads(base64.b64decode(body["state"]["State"])) if "state" in body else 0
        nonces = range(last + 1, last + tickets + 1)
        manifest_id = body.get("ManifestID", "from-signer")
        shown = self.payer.headers(info, nonces, manifest_id=manifest_id)
        state = base64.b64encode(json.dumps(nonces[-1]).encode()).decode()
        return web.json_response(
            {
                "payment": shown["Livepeer-Payment"],
                "segCreds": shown["Livepeer-Segment"],
                "state": {"State": state, "Sig": ""},
            }
        )


@asynccontextmanager
async def signing(signer: SmallSigner) -> AsyncIterator[str]:
    """Run a signer, and yield its URL."""
    server = TestServer(signer.web_app())
    await server.start_server()
    try:
        yield str(server.make_url("/")).rstrip("/")
    finally:
        await server.close()
