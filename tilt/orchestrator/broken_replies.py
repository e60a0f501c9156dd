"""Faults on HTTP: replies that are late, refused, cut short, garbled or never come."""

import asyncio
import struct
from collections.abc import Awaitable, Callable
from socket import SO_LINGER, SOL_SOCKET

from aiohttp import web

from tilt.orchestrator.faults import GARBAGE, Fault, Faults
from tilt.orchestrator.requests import is_payment

type Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

LINGER_ZERO = struct.pack("ii", 1, 0)  # closing resets the connection instead of ending it


class BrokenReplies:
    """The outermost middleware: what it breaks was answered well inside, or never got there."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        trouble = self._faults.next(
            request.match_info.route.name or "",
            runner_id=request.match_info.get("runner_id", ""),
            paid=is_payment(request),
        )
        await asyncio.sleep(trouble.delay_seconds)
        if trouble.breakage is None:
            return await handler(request)
        return await _broken(trouble.breakage, request, handler)


async def _broken(fault: Fault, request: web.Request, handler: Handler) -> web.StreamResponse:
    if fault.kind in {"truncate", "garbage"}:
        reply = await handler(request)
        assert isinstance(reply, web.Response)
        return await _cut_short(request, reply) if fault.kind == "truncate" else _garbled(reply)
    if fault.processed:
        await handler(request)
    if fault.kind == "reset":
        return _reset(request)
    return web.Response(status=fault.status, text="broken on demand\n")


def _garbled(reply: web.Response) -> web.Response:
    return web.Response(status=reply.status, body=GARBAGE, content_type=reply.content_type)


async def _cut_short(request: web.Request, reply: web.Response) -> web.StreamResponse:
    body = reply.body if isinstance(reply.body, bytes) else b""
    cut = web.StreamResponse(status=reply.status, headers={"Content-Type": reply.content_type})
    cut.content_length = len(body) + 1  # one more than there is, so that it is short even if empty
    await cut.prepare(request)
    await cut.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return cut


def _reset(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, LINGER_ZERO)
        request.transport.abort()
    return web.Response()  # nobody gets it
