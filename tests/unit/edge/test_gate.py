"""The gate, called as a server calls it."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.edge import gate as module
from services.edge.gate import CLIENT_GONE, Gate

pytestmark = pytest.mark.anyio

PAY = "/generate-live-payment"


class Server:
    """Plays the connection: gives the parts of a body, keeps what is answered."""

    def __init__(self, *parts: bytes, ends: bool = True, gone: bool = False) -> None:
        self.sent: list[Message] = []
        self._parts = list(parts)
        self._ends = ends
        self._gone = gone

    async def receive(self) -> Message:
        if self._parts:
            part = self._parts.pop(0)
            more = bool(self._parts) or not self._ends or self._gone
            return {"type": "http.request", "body": part, "more_body": more}
        if self._gone:
            return {"type": "http.disconnect"}
        return await asyncio.Event().wait() and {}

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    async def ask(self, app: ASGIApp, path: str = PAY, **headers: str) -> None:
        scope: Scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()],
        }
        await app(scope, self.receive, self.send)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def message(self) -> str:
        return str(json.loads(self.sent[1]["body"])["error"]["message"])


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    body = (await receive())["body"] + scope["body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def broken(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
    raise RuntimeError("a mistake of ours")


async def broken_late(scope: Scope, receive: Receive, send: Send) -> None:
    await echo(scope, receive, send)
    raise RuntimeError("a mistake of ours")


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []

    class FakeLog:
        info: Callable[..., None] = staticmethod(lambda event, **line: lines.append({"event": event, **line}))
        exception = info

    monkeypatch.setattr(module, "log", FakeLog())
    return lines


async def test_a_body_in_parts_is_put_together(logged: list[dict[str, Any]]) -> None:
    server = Server(b"{", b'"a"', b": 1}")

    await server.ask(Gate(echo, {}), transfer_encoding="chunked")

    assert server.sent[1]["body"] == b'{"a": 1}' * 2
    assert dict(server.sent[0]["headers"])[b"x-request-id"].decode() == logged[0]["request_id"]
    assert (logged[0]["status"], logged[0]["path"]) == (200, PAY)


async def test_without_a_length_there_is_no_body() -> None:
    server = Server(ends=False)

    await server.ask(Gate(echo, {}))

    assert server.status == 200


async def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BODY_SECONDS", 0.01)
    server = Server(b"{", ends=False)

    await server.ask(Gate(echo, {}), content_length="20")

    assert server.status == 408


@pytest.mark.parametrize(
    ("parts", "length"),
    [
        ([b"x" * 65_537], "65537"),
        ([b"x" * 65_000, b"x" * 600], None),
        ([b"x" * 65_536] * 40, None),
        ([], "1048577"),
    ],
)
async def test_too_large_a_body_is_refused(parts: list[bytes], length: str | None) -> None:
    server = Server(*parts)
    headers = {"content_length": length} if length else {"transfer_encoding": "chunked"}

    await server.ask(Gate(echo, {}), **headers)

    assert (server.status, server.message.split(" (")[0]) == (413, "bodies are limited to 65536 bytes")
    assert (b"connection", b"close") in server.sent[0]["headers"]


async def test_headers_that_would_name_a_signers_identity_are_dropped() -> None:
    seen: list[Scope] = []

    async def keep(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await echo(scope, receive, send)

    await Server(b"").ask(
        Gate(keep, {}), content_length="0", signer_auth_id="other", signer_x="1", signers="kept"
    )

    [scope] = seen
    assert set(scope["head"]) == {b"content-length", b"signers"}
    assert dict(scope["headers"]) == scope["head"]


async def test_a_body_of_just_64_kib_passes() -> None:
    server = Server(b"x" * 65_536)

    await server.ask(Gate(echo, {}), content_length="65536")

    assert server.status == 200


async def test_a_client_that_left_is_noted(logged: list[dict[str, Any]]) -> None:
    server = Server(b"{", gone=True)

    await server.ask(Gate(echo, {}), content_length="20")

    assert server.sent == []
    assert logged[0]["status"] == CLIENT_GONE


async def test_a_mistake_of_ours_is_logged_and_says_nothing(logged: list[dict[str, Any]]) -> None:
    server = Server()

    await server.ask(Gate(broken, {}))

    assert server.status == 500
    assert server.message == f"Internal Server Error (request {logged[0]['request_id']})"
    assert [line["event"] for line in logged] == ["request_failed", "request"]


async def test_an_answer_that_has_begun_is_not_answered_again() -> None:
    server = Server()

    await server.ask(Gate(broken_late, {}))

    assert [message["type"] for message in server.sent] == ["http.response.start", "http.response.body"]


async def test_a_short_cut_is_by_method_and_path() -> None:
    server, other = Server(), Server()
    gate = Gate(broken, {("POST", PAY): echo})

    await server.ask(gate)
    await other.ask(gate, "/other")

    assert (server.status, other.status) == (200, 500)


async def test_request_ids_are_never_the_same(logged: list[dict[str, Any]]) -> None:
    for gate in (Gate(echo, {}), Gate(echo, {})):
        for _ in range(3):
            await Server().ask(gate)

    assert len({line["request_id"] for line in logged}) == 6
