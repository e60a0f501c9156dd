"""The HTTP side of live runners."""

from aiohttp import web

from tilt.orchestrator.addresses import Address, parse_address
from tilt.orchestrator.live_runners import LiveRunners
from tilt.orchestrator.orchestrator import Orchestrator
from tilt.orchestrator.refusals import JsonRefusedError
from tilt.orchestrator.requests import (
    PAYER_HEADER,
    is_payment,
    json_object,
    origin_of,
    payment_headers,
)
from tilt.orchestrator.runners import PERSISTENT, SINGLE_SHOT, Runner
from tilt.orchestrator.sessions import Session


class RunnerRoutes:
    def __init__(self, orchestrator: Orchestrator) -> None:
        self._orchestrator = orchestrator
        self._live_runners = LiveRunners(orchestrator)

    def routes(self) -> list[web.RouteDef]:
        runner, rest = "/apps/{runner_id}", "{path:(?:/.*)?}"
        session = f"{runner}/session/{{session_id}}"
        return [
            web.post(f"{runner}/session", self._reserve, name="reserve"),
            web.post(f"{session}/payment", self._pay, name="session_payment"),
            web.post(f"{session}/stop", self._stop, name="stop"),
            web.route("*", f"{session}/app{rest}", self._session_app, name="app"),
            web.route("*", f"{runner}/app{rest}", self._call, name="call"),
            web.post("/refresh-payment", self._refresh, name="refresh_payment"),
        ]

    async def _reserve(self, request: web.Request) -> web.Response:
        runner = self._orchestrator.runners.ready_as(PERSISTENT, request.match_info["runner_id"])
        session = await self._paid_session(runner, request)
        if isinstance(session, web.Response):
            return session
        control_url = f"{origin_of(request, self._orchestrator)}{runner.path}/{session.session_id}"
        return web.json_response(
            {
                "session_id": session.session_id,
                "app_url": f"{control_url}/app",
                "control_url": control_url,
            }
        )

    async def _call(self, request: web.Request) -> web.Response:
        """Run a single shot: its session lasts as long as the call."""
        runner = self._orchestrator.runners.ready_as(SINGLE_SHOT, request.match_info["runner_id"])
        session = await self._paid_session(runner, request)
        if isinstance(session, web.Response):
            return session
        await self._live_runners.work(runner, session)
        return await _echo(request)

    async def _paid_session(self, runner: Runner, request: web.Request) -> Session | web.Response:
        """Open a session with the payment that came along; without one answer with a challenge."""
        origin = origin_of(request, self._orchestrator)
        if not is_payment(request):
            challenge = await self._live_runners.challenge(runner, _payer(request), origin)
            return web.json_response(challenge.to_json(), status=402)
        repeat = self._orchestrator.repeats.next(runner.id)
        if repeat is None:
            return await self._live_runners.reserve(runner, payment_headers(request))
        challenge = await self._live_runners.challenge_again(
            runner, _payer(request), origin, repeat=repeat, headers=payment_headers(request)
        )
        return web.json_response(challenge.to_json(), status=402)

    async def _pay(self, request: web.Request) -> web.Response:
        result = await self._live_runners.pay(
            request.match_info["runner_id"],
            request.match_info["session_id"],
            payment_headers(request),
            origin_of(request, self._orchestrator),
        )
        return web.Response(body=result.SerializeToString())

    async def _refresh(self, request: web.Request) -> web.Response:
        body = await json_object(request)
        try:
            sender = parse_address(str(body.get("sender", "")))
        except ValueError as error:
            raise JsonRefusedError(400, "invalid sender") from error
        manifest_id = str(body.get("manifest_id") or "").strip()
        if not manifest_id:
            raise JsonRefusedError(400, "missing manifest_id")
        origin = origin_of(request, self._orchestrator)
        challenge = await self._live_runners.refresh(sender, manifest_id, origin)
        return web.json_response(challenge.to_json())

    async def _session_app(self, request: web.Request) -> web.Response:
        """Run the application: it says what it is told, as long as its session is paid for."""
        runner_id = request.match_info["runner_id"]
        self._orchestrator.runners.ready(runner_id)
        self._orchestrator.sessions.find(runner_id, request.match_info["session_id"])
        return await _echo(request)

    async def _stop(self, request: web.Request) -> web.Response:
        self._live_runners.stop(request.match_info["runner_id"], request.match_info["session_id"])
        return web.Response(status=204)


def _payer(request: web.Request) -> Address:
    try:
        return parse_address(request.headers.get(PAYER_HEADER, ""))
    except ValueError as error:
        raise JsonRefusedError(402, "invalid live runner payment signer address") from error


async def _echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read(), content_type=request.content_type)
