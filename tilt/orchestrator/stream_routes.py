"""The HTTP side of live video, of payments and segments, and of BYOC jobs."""

from aiohttp import web

from tilt.orchestrator.byoc import Byoc
from tilt.orchestrator.live_video import LiveVideo, Started
from tilt.orchestrator.orchestrator import Orchestrator
from tilt.orchestrator.refusals import RefusedError
from tilt.orchestrator.requests import PAYMENT_HEADER, json_object, origin_of, payment_headers
from tilt.orchestrator.segments import Segments

JOB_HEADER = "Livepeer"


class StreamRoutes:
    def __init__(self, orchestrator: Orchestrator) -> None:
        self._orchestrator = orchestrator
        self._live_video = LiveVideo(orchestrator)
        self._segments = Segments(orchestrator)
        self._byoc = Byoc(orchestrator)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/payment", self._pay, name="payment"),
            web.post("/segment", self._transcode, name="segment"),
            web.post("/live-video-to-video", self._start, name="live_video_to_video"),
            web.post("/process/request/{path:.+}", self._process, name="process_request"),
        ]

    async def _pay(self, request: web.Request) -> web.Response:
        origin = origin_of(request, self._orchestrator)
        result = await self._segments.pay(payment_headers(request), origin)
        return web.Response(body=result.SerializeToString())

    async def _transcode(self, request: web.Request) -> web.Response:
        origin = origin_of(request, self._orchestrator)
        body = await request.read()
        return web.Response(body=await self._segments.transcode(payment_headers(request), body, origin))

    async def _start(self, request: web.Request) -> web.Response:
        body = await json_object(request)
        model = body.get("model_id")
        if not isinstance(model, str) or not model:
            raise RefusedError(400, "model_id is required")
        session = await self._live_video.start(model, payment_headers(request))
        started = Started(session.session_id, origin_of(request, self._orchestrator))
        return web.json_response(started.to_json())

    async def _process(self, request: web.Request) -> web.Response:
        """Run a job: its result says which capability did nothing with which payload."""
        payload = await json_object(request)
        done = await self._byoc.process(
            request.headers.get(JOB_HEADER, ""), request.headers.get(PAYMENT_HEADER, "")
        )
        return web.json_response(
            {"capability": request.match_info["path"], "echo": payload},
            headers={"Livepeer-Balance": str(done.balance)},
        )
