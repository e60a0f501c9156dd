"""The HTTP servers: the public one with a bounded head, and the operators' one beside it."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from prometheus_client import generate_latest
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from services.edge.gate import HEAD_BYTES_MAX
from services.edge.problems import refusal_bytes

HEAD_SECONDS = 10.0
KEEP_ALIVE_SECONDS = 75  # longer than a paying client is silent
GRACE_SECONDS = 5
RESPONSE, END_OF_HEAD = b"HTTP/1.1 ", b"\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 "


def _refusal(status: int, code: str, message: str) -> bytes:
    """The whole answer to a head that cannot be read; for which path it was is not known."""
    body, media_type = refusal_bytes("", status, code, message, request_id="none")
    lines = (
        b"content-type: " + media_type,
        b"content-length: %d" % len(body),
        b"connection: close",
    )
    return STATUS_LINE[status] + b"\r\n".join(lines) + END_OF_HEAD + body


TOO_LARGE = _refusal(431, "headers_too_large", f"headers are limited to {HEAD_BYTES_MAX} bytes")
MALFORMED = _refusal(400, "malformed_request", "this is no HTTP request")


class Corked:
    """A transport that sends the head of a response together with what follows it.

    The server writes them apart; two system calls and two packets for each small answer cost more
    than all of our own code.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""

    def write(self, data: bytes) -> None:
        if data.startswith(RESPONSE) and data.endswith(END_OF_HEAD) and not data.startswith(CONTINUE):
            self._head = data
        else:
            self._transport.write(self._head + data)
            self._head = b""

    def flush(self) -> None:
        if self._head:
            self._transport.write(self._head)
            self._head = b""

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class BoundedProtocol(HttpToolsProtocol):
    """Cuts off a head that is too long or too slow, before anything is made of it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.url = b""
        self._head_bytes = 0
        self._in_head = True  # a connection starts with one
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # uvicorn narrows it alike
        self._corked = Corked(transport)
        super().connection_made(self._corked)  # type: ignore[arg-type] # it is one for all that is used
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._corked.close)

    def on_response_complete(self) -> None:
        self._corked.flush()  # a response without a body
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._in_head or self.transport.is_closing():
            return
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES_MAX:
            self.transport.write(TOO_LARGE)
            self.transport.close()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 (the library's words)
        self.transport.write(TOO_LARGE if len(self.url) > HEAD_BYTES_MAX else MALFORMED)
        self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_timer()
        super().on_headers_complete()

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class QuietServer(uvicorn.Server):
    """A server that leaves signals to its process: two run in one, and it ends by itself."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Health:
    """/livez, /readyz and /metrics, on a port of their own: they are not public."""

    def __init__(self, ready: Callable[[], bool]) -> None:
        self._ready = ready

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        status, body = self._answer(scope["path"])
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", str(len(body)).encode()),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    def _answer(self, path: str) -> tuple[int, bytes]:
        match path:
            case "/livez":
                return 200, b"alive\n"
            case "/readyz":
                return (200, b"ready\n") if self._ready() else (503, b"not ready\n")
            case "/metrics":
                return 200, generate_latest()
        return 404, b"not found\n"


def public_server(app: ASGIApp, host: str, port: int, *, connections_max: int) -> QuietServer:
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=connections_max,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    return QuietServer(config)


def health_server(health: Health, host: str, port: int) -> QuietServer:
    config = uvicorn.Config(
        health, host=host, port=port, ws="none", lifespan="off", log_config=None, access_log=False
    )
    return QuietServer(config)
