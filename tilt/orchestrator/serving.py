"""Everything that listens, from start to stop: plain HTTP, and with a TLS port gRPC and HTTPS."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import cast

from aiohttp import web

from tilt.orchestrator.certificate import Certificate
from tilt.orchestrator.control import Control
from tilt.orchestrator.front import Front, ProtocolFactory
from tilt.orchestrator.orchestrator import Orchestrator
from tilt.orchestrator.rpc import Rpc
from tilt.orchestrator.server import Server
from tilt.orchestrator.service import Service
from tilt.orchestrator.settings import Settings

HEADER_MAX_BYTES = 2**20  # a hundred tickets are about 10 kB, above aiohttp's default
SHUTDOWN_SECONDS = 1


@asynccontextmanager
async def serving(settings: Settings, orchestrator: Orchestrator) -> AsyncIterator[None]:
    """Answer at all ports until left."""
    certificate = None
    if settings.tls_port is not None:
        hosts = ["localhost", "127.0.0.1", settings.host]
        certificate = Certificate(settings.state_dir, hosts)
    async with AsyncExitStack() as stack:
        runner = web.AppRunner(
            Server(orchestrator, Control(orchestrator, certificate)).web_app(),
            access_log=None,
            shutdown_timeout=SHUTDOWN_SECONDS,
            max_line_size=HEADER_MAX_BYTES,
            max_field_size=HEADER_MAX_BYTES,
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        if certificate is not None:
            rpc = Rpc(orchestrator, Service(orchestrator, settings.key))
            # The web server makes a protocol for each connection, whoever accepted it.
            http = cast(ProtocolFactory, runner.server)
            front = Front(certificate, http=http, grpc_port=rpc.start())
            rpc.reset_with(front.reset)
            stack.push_async_callback(rpc.close)
            stack.push_async_callback(front.close)
            await front.start(settings.host, settings.tls_port or 0)
        await web.TCPSite(runner, settings.host, settings.port).start()
        yield
