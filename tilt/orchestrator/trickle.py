"""Trickle channels of a stream: what is published is dropped, and output comes by the clock.

Clients pay for live video as output segments arrive, so without output no client would pay on.
"""

import asyncio
from contextlib import suppress

from aiohttp import web

from tilt.orchestrator.offer import LIVE_VIDEO
from tilt.orchestrator.orchestrator import Orchestrator
from tilt.orchestrator.refusals import RefusedError
from tilt.orchestrator.sessions import Session

CHANNELS_PATH = "/ai/trickle"
SEGMENT_SECONDS = 1
SEGMENTS_KEPT = 5
POLL_SECONDS = 0.05
ENTRY_NOT_FOUND = 470
OUTPUTS = ("-out", "-events")
LATEST, NEXT = -2, -1


class Trickle:
    def __init__(self, orchestrator: Orchestrator) -> None:
        self._orchestrator = orchestrator

    def routes(self) -> list[web.RouteDef]:
        channel = f"{CHANNELS_PATH}/{{manifest_id:[0-9a-f]+}}{{suffix:(?:-[a-z]+)?}}"
        return [
            web.post(channel, self._create),
            web.delete(channel, self._close),
            web.post(f"{channel}/{{index}}", self._publish),
            web.get(f"{channel}/{{index}}", self._subscribe),
        ]

    async def _create(self, request: web.Request) -> web.Response:
        self._stream(request)
        return web.Response()

    async def _close(self, request: web.Request) -> web.Response:
        """End the stream with its input; its other channels may come and go."""
        stream = self._stream(request)
        if not request.match_info["suffix"]:
            self._orchestrator.sessions.release(stream, "stopped")
        return web.Response()

    async def _publish(self, request: web.Request) -> web.Response:
        self._stream(request)
        async for _ in request.content.iter_any():
            pass
        return web.Response(headers={"Lp-Trickle-Seq": request.match_info["index"]})

    async def _subscribe(self, request: web.Request) -> web.Response:
        stream = self._stream(request)
        if request.match_info["suffix"] not in OUTPUTS:
            raise RefusedError(404, "Stream not found")
        latest = self._latest(stream)
        index = _index(request.match_info["index"], latest)
        if not latest - SEGMENTS_KEPT <= index <= latest + 1:
            return web.Response(status=ENTRY_NOT_FOUND, headers={"Lp-Trickle-Latest": str(latest)})
        await self._until_there_is(index, stream)
        headers = {"Lp-Trickle-Seq": str(index), "Lp-Trickle-Latest": str(self._latest(stream))}
        if stream.over.is_set():
            return web.Response(headers={**headers, "Lp-Trickle-Closed": "terminated"})
        return web.json_response({"segment": index}, headers=headers)

    async def _until_there_is(self, index: int, stream: Session) -> None:
        while self._latest(stream) < index and not stream.over.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(stream.over.wait(), POLL_SECONDS)

    def _latest(self, stream: Session) -> int:
        return int((self._orchestrator.clock() - stream.opened_at) / SEGMENT_SECONDS)

    def _stream(self, request: web.Request) -> Session:
        for session in self._orchestrator.sessions.named(request.match_info["manifest_id"]):
            if session.place.startswith(LIVE_VIDEO):
                return session
        raise RefusedError(404, "Stream not found")


def _index(text: str, latest: int) -> int:
    try:
        index = int(text)
    except ValueError as error:
        raise RefusedError(400, "Invalid idx") from error
    return {LATEST: latest, NEXT: latest + 1}.get(index, index)
