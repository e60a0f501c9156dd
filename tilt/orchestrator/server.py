"""The HTTP side: discovery, the live-runner flow, and two routes for tests."""

import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from contracts.livepeer import payments_pb2 as pb
from tilt.orchestrator.addresses import parse_address
from tilt.orchestrator.control import apply_control
from tilt.orchestrator.orchestrator import Orchestrator
from tilt.orchestrator.refusals import RefusedError
from tilt.orchestrator.status import status_document

RUNNER_ID = "runner-1"
PAYER_HEADER = "Livepeer-Payer-Address"
PAYMENT_HEADER = "Livepeer-Payment"
SEGMENT_HEADER = "Livepeer-Segment"

type Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Translates requests; `app` is the runner's only application."""

    def __init__(self, orchestrator: Orchestrator, *, app: str) -> None:
        self._orchestrator = orchestrator
        self._app = app
        self._url = orchestrator.quotes.url
        self._runner_url = f"{self._url}/apps/{RUNNER_ID}/session"

    def web_app(self) -> web.Application:
        app = web.Application(middlewares=[self._refusals])
        session = f"/apps/{RUNNER_ID}/session/{{session_id}}"
        app.add_routes(
            [
                web.get("/discovery", self._discovery),
                web.post(f"/apps/{RUNNER_ID}/session", self._reserve),
                web.post(f"{session}/payment", self._pay),
                web.post(f"{session}/app", self._echo),
                web.post(f"{session}/stop", self._stop),
                web.post("/refresh-payment", self._refresh),
                web.get("/status", self._status),
                web.post("/control", self._control),
            ]
        )
        return app

    @web.middleware
    async def _refusals(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer refusals in plain text, as Go's http.Error does, and remember refused payments."""
        try:
            return await handler(request)
        except RefusedError as refusal:
            if _is_payment(request):
                self._orchestrator.journal.payment_refused(request.path, refusal.status, refusal.text)
            return web.Response(status=refusal.status, text=f"{refusal.text}\n")

    async def _discovery(self, _: web.Request) -> web.Response:
        sessions, terms = self._orchestrator.sessions, self._orchestrator.quotes.terms
        price = terms.price
        runner = {
            "url": self._runner_url,
            "app": self._app,
            "mode": "persistent",
            "capacity": sessions.capacity,
            "capacity_used": len(sessions.active),
            "capacity_available": sessions.capacity - len(sessions.active),
            "price_info": {
                "price": int(price) if price.is_integer() else float(price),
                "currency": "wei",
                "unit": "seconds",
            },
        }
        entry = {"address": self._url, "score": 1, "capabilities": [self._app], "runners": [runner]}
        return web.json_response([entry])

    async def _reserve(self, request: web.Request) -> web.Response:
        if not _is_payment(request):
            return await self._challenge(request)
        session_id = await self._orchestrator.reserve(*_payment_headers(request))
        return web.json_response(
            {
                "session_id": session_id,
                "app_url": f"{self._runner_url}/{session_id}/app",
                "control_url": f"{self._runner_url}/{session_id}",
            }
        )

    async def _challenge(self, request: web.Request) -> web.Response:
        try:
            sender = parse_address(request.headers.get(PAYER_HEADER, ""))
            session_id, info = await self._orchestrator.challenge(sender)
        except (ValueError, RefusedError) as error:
            status = error.status if isinstance(error, RefusedError) else 402
            return web.json_response({"error": {"message": str(error)}}, status=status)
        challenge = {
            "payment_params": _base64(info),
            "manifest_id": session_id,
            "payment_url": f"{self._runner_url}/{session_id}/payment",
            "orchestrator": self._url,
        }
        return web.json_response(challenge, status=402)

    async def _pay(self, request: web.Request) -> web.Response:
        result = await self._orchestrator.pay(request.match_info["session_id"], *_payment_headers(request))
        return web.Response(body=result.SerializeToString())

    async def _refresh(self, request: web.Request) -> web.Response:
        body = await _json_object(request)
        try:
            sender = parse_address(str(body.get("sender", "")))
        except ValueError as error:
            raise RefusedError(400, str(error)) from error
        info = await self._orchestrator.refresh(sender, str(body.get("manifest_id", "")))
        return web.json_response({"payment_params": _base64(info)})

    async def _echo(self, request: web.Request) -> web.Response:
        """Run the application: it says what it is told, as long as its session is paid for."""
        self._orchestrator.sessions.check_is_active(request.match_info["session_id"])
        return web.Response(body=await request.read(), content_type=request.content_type)

    async def _stop(self, request: web.Request) -> web.Response:
        session_id = request.match_info["session_id"]
        self._orchestrator.sessions.check_is_active(session_id)
        self._orchestrator.sessions.release(session_id, "stopped")
        return web.json_response({})

    async def _status(self, request: web.Request) -> web.Response:
        limit = request.query.get("limit", "")
        records = int(limit) if limit.isdecimal() else None
        return web.json_response(status_document(self._orchestrator, records))

    async def _control(self, request: web.Request) -> web.Response:
        return web.json_response(apply_control(self._orchestrator, await _json_object(request)))


async def _json_object(request: web.Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.read())
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, f"invalid JSON: {error}") from error
    if not isinstance(body, dict):
        raise RefusedError(400, "expected a JSON object")
    return body


def _is_payment(request: web.Request) -> bool:
    return any(_payment_headers(request))


def _payment_headers(request: web.Request) -> tuple[str, str]:
    headers = request.headers
    return headers.get(PAYMENT_HEADER, ""), headers.get(SEGMENT_HEADER, "")


def _base64(info: pb.OrchestratorInfo) -> str:
    return base64.b64encode(info.SerializeToString()).decode()
