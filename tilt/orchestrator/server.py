"""The HTTP side put together, with the two routes for tests: /status and /control."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from tilt.orchestrator.broken_replies import BrokenReplies
from tilt.orchestrator.control import Control
from tilt.orchestrator.discovery import discovery_document
from tilt.orchestrator.headers import manifest_id_of
from tilt.orchestrator.journal import RefusedPayment
from tilt.orchestrator.orchestrator import Orchestrator
from tilt.orchestrator.refusals import JsonRefusedError, RefusedError
from tilt.orchestrator.requests import is_payment, json_object, origin_of, payment_headers
from tilt.orchestrator.runner_routes import RunnerRoutes
from tilt.orchestrator.status import status_document
from tilt.orchestrator.stream_routes import StreamRoutes
from tilt.orchestrator.trickle import Trickle

BODY_MAX_BYTES = 32 * 2**20  # a segment of video

type Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Translates requests; what they mean is decided elsewhere."""

    def __init__(self, orchestrator: Orchestrator, control: Control) -> None:
        self._orchestrator = orchestrator
        self._control = control

    def web_app(self) -> web.Application:
        orchestrator = self._orchestrator
        broken_replies = BrokenReplies(orchestrator.faults)
        app = web.Application(
            middlewares=[broken_replies.middleware, self._refusals], client_max_size=BODY_MAX_BYTES
        )
        app.add_routes(
            [
                web.get("/discovery", self._discovery, name="discovery"),
                *RunnerRoutes(orchestrator).routes(),
                *StreamRoutes(orchestrator).routes(),
                *Trickle(orchestrator).routes(),
                web.get("/status", self._status),
                web.post("/control", self._steer),
            ]
        )
        return app

    @web.middleware
    async def _refusals(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer refusals in plain text, as Go's http.Error does, and remember refused payments."""
        journal = self._orchestrator.journal
        journal.counters.payments_received += is_payment(request)
        try:
            return await handler(request)
        except RefusedError as refusal:
            if is_payment(request):
                journal.payment_refused(_refused(request, refusal))
            if isinstance(refusal, JsonRefusedError):
                return web.json_response({"error": {"message": refusal.text}}, status=refusal.status)
            return web.Response(status=refusal.status, text=f"{refusal.text}\n")

    async def _discovery(self, request: web.Request) -> web.Response:
        origin = origin_of(request, self._orchestrator)
        return web.json_response(discovery_document(self._orchestrator, origin))

    async def _status(self, request: web.Request) -> web.Response:
        limit = request.query.get("limit", "")
        records = int(limit) if limit.isdecimal() else None
        return web.json_response(status_document(self._orchestrator, records))

    async def _steer(self, request: web.Request) -> web.Response:
        return web.json_response(self._control.apply(await json_object(request)))


def _refused(request: web.Request, refusal: RefusedError) -> RefusedPayment:
    return RefusedPayment(
        path=request.path,
        status=refusal.status,
        reason=refusal.text,
        manifest_id=manifest_id_of(payment_headers(request)[1]),
    )
