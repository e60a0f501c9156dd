"""The gate every request passes: its id, its limits, its line in the log.

What is enforced here: at most 64 KiB of body, or 256 KiB of a webhook's, or 1 MiB of pushed usage
(413), that comes within ten seconds (408), at most 16 KiB of headers (431), no compressed bodies
(415). A head that never ends is cut off before, by `services.edge.server`.
"""

import asyncio
import itertools
import secrets
import time
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog
from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.edge.console.assets import PREFIX as ASSETS
from services.edge.problems import WIRE_PATHS, refusal_bytes
from shared import telemetry

log = structlog.get_logger()

BODY_BYTES_MAX = 64 * 1024
WEBHOOK_BYTES_MAX = 256 * 1024
WEBHOOKS = "/webhooks/"
PUSHED_BYTES_MAX = 1024 * 1024
PUSHED = frozenset({"/v1/usage/events", "/v1/usage/tickets"})
CONSOLE = ("/usage", "/sign-in", "/sign-out", ASSETS)
DISCARDED_BYTES_MAX = 1024 * 1024  # read and dropped, as a client that still writes hears no answer
HEAD_BYTES_MAX = 16 * 1024
BODY_SECONDS = 10.0
# go-livepeer's signer takes an identity from such a header; here only the key says who it is.
SCRUBBED = b"signer-"
CLIENT_GONE = 499
HTTP_REFUSED = 400  # and above

type Headers = dict[bytes, bytes]


class OverLimit(Exception):  # noqa: N818 (a refusal is an answer, not an error)
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


class ClientGone(Exception):  # noqa: N818 (nothing of ours is broken)
    """Nobody waits for the answer any more."""


class Gate:
    """Puts `request_id`, `head` and `body` into the scope, for what lies behind it.

    Routes that are called a thousand times a second get a short cut past the application's layers,
    which costs a third less.
    """

    def __init__(self, app: ASGIApp, short_cuts: Mapping[tuple[str, str], ASGIApp]) -> None:
        self._app = app
        self._short_cuts = short_cuts
        self._prefix = secrets.token_hex(6)  # of this process
        self._numbers = itertools.count(1)
        self._meters: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started_at = time.perf_counter()
        request_id = f"{self._prefix}-{next(self._numbers):x}"
        scope["request_id"] = request_id
        reply = _Reply(send, request_id.encode())
        try:
            head = scope["head"] = _head(scope)
            scope["body"] = body = await _body(head, receive, _bytes_max(scope["path"]))
            scope["app"] = self._app
            app = self._short_cuts.get((scope["method"], scope["path"]), self._app)
            await app(scope, _Replay(body, receive), reply)
        except OverLimit as over:
            await _refuse(scope, reply, over)
        except ClientGone:
            reply.status = CLIENT_GONE
        except Exception:
            log.exception("request_failed", request_id=request_id, path=_path(scope, 500))
            await _refuse(scope, reply, OverLimit(500, "internal_error", "Internal Server Error"))
        finally:
            self._note(scope, reply.status, time.perf_counter() - started_at)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        path = scope["path"]
        what = path if path in WIRE_PATHS else "console" if path.startswith(CONSOLE) else "v1"
        meters = self._meters.get((what, status))
        if meters is None:
            meters = (
                telemetry.answers_total.labels(what, str(status)),
                telemetry.request_seconds.labels(what),
            )
            self._meters[what, status] = meters
        meters[0].inc()
        meters[1].observe(seconds)
        log.info(
            "request",
            request_id=scope["request_id"],
            account_id=scope.get("account_id"),
            method=scope["method"],
            path=_path(scope, status),
            status=status,
            ms=round(seconds * 1000, 2),
        )


def _path(scope: Scope, status: int) -> str:
    """The path as it may be logged: one that found nothing may hold anything, a key or a mail address."""
    path = str(scope["path"])
    if status < HTTP_REFUSED or path in WIRE_PATHS or path in CONSOLE:
        return path
    return str(getattr(scope.get("route"), "path", "(unknown)"))


class _Reply:
    """Adds the request id to a response, and remembers its status."""

    __slots__ = ("_request_id", "_send", "started", "status")

    def __init__(self, send: Send, request_id: bytes) -> None:
        self._send = send
        self._request_id = request_id
        self.status = 500
        self.started = False

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
            message["headers"].append((b"x-request-id", self._request_id))
        await self._send(message)


class _Replay:
    """Gives the body once, then whatever the connection says."""

    __slots__ = ("_body", "_receive")

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


def _head(scope: Scope) -> Headers:
    headers = scope["headers"]
    size = len(scope["raw_path"]) + len(scope["query_string"])
    scrub = False
    for name, value in headers:
        size += len(name) + len(value) + 4
        scrub = scrub or name.startswith(SCRUBBED)
    if size > HEAD_BYTES_MAX:
        raise OverLimit(431, "headers_too_large", f"headers are limited to {HEAD_BYTES_MAX} bytes")
    if scrub:
        headers = scope["headers"] = [entry for entry in headers if not entry[0].startswith(SCRUBBED)]
    return dict(headers)


def _bytes_max(path: str) -> int:
    if path in PUSHED:
        return PUSHED_BYTES_MAX
    return WEBHOOK_BYTES_MAX if path.startswith(WEBHOOKS) else BODY_BYTES_MAX


async def _body(head: Headers, receive: Receive, bytes_max: int) -> bytes:
    if head.get(b"content-encoding", b"identity").lower() != b"identity":
        raise OverLimit(415, "compressed_body", "compressed requests are not accepted")
    if head.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
        raise OverLimit(415, "compressed_body", "transfer encodings other than chunked are not accepted")
    length = head.get(b"content-length")
    if length is None and b"transfer-encoding" not in head:
        return b""
    # The parser has checked that it is a number.
    if length is not None and int(length) > DISCARDED_BYTES_MAX:
        raise _too_large(bytes_max)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _read(receive, bytes_max)
    except TimeoutError:
        raise OverLimit(408, "body_too_slow", "the body did not come in time") from None


async def _read(receive: Receive, bytes_max: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        part = message["body"]
        size += len(part)
        if size <= bytes_max:
            parts.append(part)
        elif size > DISCARDED_BYTES_MAX:
            raise _too_large(bytes_max)
        if not message["more_body"]:
            break
    if size > bytes_max:
        raise _too_large(bytes_max)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(bytes_max: int) -> OverLimit:
    return OverLimit(413, "body_too_large", f"bodies are limited to {bytes_max} bytes")


async def _refuse(scope: Scope, reply: _Reply, over: OverLimit) -> None:
    if reply.started:
        return
    body, media_type = refusal_bytes(scope["path"], over.status, over.code, over.message, scope["request_id"])
    headers = [
        (b"content-type", media_type),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),  # the rest of the body is not worth reading
    ]
    await reply({"type": "http.response.start", "status": over.status, "headers": headers})
    await reply({"type": "http.response.body", "body": body, "more_body": False})
