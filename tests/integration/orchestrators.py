"""Stand-ins for orchestrators: gRPC and HTTPS on one origin, and every way to misbehave there."""

import asyncio
import contextlib
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from aiohttp import web

from contracts.livepeer.payments_pb2 import Capabilities, OrchestratorInfo, OrchestratorRequest, PriceInfo

LOCALHOST = "127.0.0.1"
LIVE_VIDEO = 35
APP = "demo/echo"
# Of nobody, valid at no time: what signs itself may look like this. The key is worth nothing.
CERTIFICATE = """-----BEGIN CERTIFICATE-----
MIIBKTCBzwIUH5SpdluzbYdPTjbLAYO+8mUj/+cwCgYIKoZIzj0EAwIwFzEVMBMG
A1UECgwMb3JjaGVzdHJhdG9yMB4XDTI2MTEyMTIyMTQwN1oXDTI2MTEyMDIyMTQw
N1owFzEVMBMGA1UECgwMb3JjaGVzdHJhdG9yMFkwEwYHKoZIzj0CAQYIKoZIzj0D
AQcDQgAEha9NKyFTlr6kmnqwPMfWx4ihTpiJAxl1vVyuC+JFxSia+hscAiDjcRxc
Pfs2PcF908yBX/IwCpczzQf9wvCRjjAKBggqhkjOPQQDAgNJADBGAiEA3AR3P+zx
5gbT5xRKZNREKeDVpOIYzr5nMCgxzJJrFD8CIQDdIUfT3lbFqFjc2B/yOaCM/u3y
v5jPteGHpCUQtJkeFw==
-----END CERTIFICATE-----
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgpfqc6s2XMAzrmvfU
JOGl5LvcxO/KB8p0Naj49EFS0luhRANCAASFr00rIVOWvqSaerA8x9bHiKFOmIkD
GXW9XK4L4kXFKJr6GxwCIONxHFw9+zY9wX3TzIFf8jAKlzPNB/3C8JGO
-----END PRIVATE KEY-----
"""

type AnswerInfo = Callable[["StandIn"], Awaitable[bytes]]
type AnswerDocument = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class StandIn:
    """One orchestrator; what it answers can be changed while it runs."""

    port: int = 0
    is_tls: bool = True
    info: OrchestratorInfo = field(default_factory=OrchestratorInfo)
    document: Any = None  # JSON, or what is sent as it is if it is bytes
    answer_info: AnswerInfo | None = None  # instead of `info`
    answer_document: AnswerDocument | None = None  # instead of `document`
    asked: list[OrchestratorRequest] = field(default_factory=list)
    authorities: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{'https' if self.is_tls else 'http'}://{LOCALHOST}:{self.port}"

    def offer(self, model: str = "echo", *, price: int = 7, runner_price: Any = 5) -> None:
        """One model, and one runner for our app."""
        self.info = info(self.url, models={model: price})
        self.document = [{"address": self.url, "runners": [runner(self.url, price=runner_price)]}]

    async def _get_orchestrator(self, encoded: bytes, context: Any) -> bytes:
        self.asked.append(OrchestratorRequest.FromString(encoded))
        if self.answer_info is not None:
            return await self.answer_info(self)
        if not self.info.address:
            await context.abort(grpc.StatusCode.INTERNAL, "insufficient sender reserve")
        return self.info.SerializeToString()

    async def _discovery(self, request: web.Request) -> web.StreamResponse:
        self.authorities.append(request.host)
        if self.answer_document is not None:
            return await self.answer_document(request)
        if self.document is None:
            return web.Response(status=404)
        body = self.document if isinstance(self.document, bytes) else json.dumps(self.document).encode()
        return web.Response(body=body, content_type="application/json")


def info(url: str, *, models: dict[str, int], price: int = 10**9) -> OrchestratorInfo:
    """An OrchestratorInfo that offers models of live video, each at its price in wei per pixel."""
    capabilities = Capabilities()
    for model in models:
        capabilities.constraints.per_capability[LIVE_VIDEO].models[model].warm = True
    return OrchestratorInfo(
        transcoder=url,
        address=b"\x01" * 20,
        price_info=PriceInfo(price_per_unit=price, pixels_per_unit=1),
        capabilities=capabilities,
        capabilities_prices=[
            PriceInfo(price_per_unit=own, pixels_per_unit=1, capability=LIVE_VIDEO, constraint=model)
            for model, own in models.items()
        ],
    )


def runner(
    url: str, *, name: str = "runner-1", app: str = APP, price: Any = 5, **more: Any
) -> dict[str, Any]:
    return {
        "url": f"{url}/apps/{name}/session",
        "app": app,
        "capacity": 3,
        "price_info": {"price": price, "currency": "wei", "unit": "seconds"},
        **more,
    }


@asynccontextmanager
async def orchestrators(count: int = 1, *, is_tls: bool = True) -> AsyncIterator[list[StandIn]]:
    """Run so many orchestrators, each with something to offer."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(orchestrator(is_tls=is_tls)) for _ in range(count)]


@asynccontextmanager
async def orchestrator(*, is_tls: bool = True) -> AsyncIterator[StandIn]:
    stand_in = StandIn(is_tls=is_tls)
    async with _grpc(stand_in) as grpc_port, _http(stand_in) as http_port:

        async def front(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            """HTTP/2 begins with PRI, and only gRPC speaks it here."""
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                first = await reader.readexactly(3)
                back, there = await asyncio.open_connection(
                    LOCALHOST, grpc_port if first == b"PRI" else http_port
                )
                there.write(first)
                try:
                    await asyncio.gather(_copy(reader, there), _copy(back, writer))
                finally:
                    there.transport.abort()

        async with listening(front, tls=server_tls() if is_tls else None) as port:
            stand_in.port = port
            stand_in.offer()
            yield stand_in


@asynccontextmanager
async def listening(
    on_connection: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    *,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[int]:
    """Serve connections on a port of ours; those that are open at the end are cut."""
    open_now: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_now.add(task)
        try:
            await on_connection(reader, writer)
        except asyncio.CancelledError:
            pass  # the end of the test
        finally:
            open_now.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(serve, LOCALHOST, 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(open_now):
            task.cancel()
        await asyncio.gather(*open_now, return_exceptions=True)


def server_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2", "http/1.1"])
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_text(CERTIFICATE)
        context.load_cert_chain(file.name)
    return context


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(65_536):
            writer.write(piece)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def _grpc(stand_in: StandIn) -> AsyncIterator[int]:
    server = grpc.aio.server(options=[("grpc.max_send_message_length", -1)])
    method = grpc.unary_unary_rpc_method_handler(stand_in._get_orchestrator)  # noqa: SLF001 (a part of it)
    handler = grpc.method_handlers_generic_handler("net.Orchestrator", {"GetOrchestrator": method})
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port(f"{LOCALHOST}:0")
    await server.start()
    yield port
    await server.stop(grace=None)


@asynccontextmanager
async def _http(stand_in: StandIn) -> AsyncIterator[int]:
    app = web.Application()
    app.add_routes([web.get("/discovery", stand_in._discovery)])  # noqa: SLF001 (a part of it)
    running = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await running.setup()
    site = web.TCPSite(running, LOCALHOST, 0)
    await site.start()
    yield running.addresses[0][1]
    await running.cleanup()
