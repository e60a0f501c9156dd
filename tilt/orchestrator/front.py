"""The TLS listener: gRPC and HTTP at one origin, told apart by the protocol that TLS settles on."""

import asyncio
import struct
from collections.abc import Callable
from contextlib import suppress
from socket import SO_LINGER, SOL_SOCKET

from tilt.orchestrator.certificate import Certificate

CHUNK_BYTES = 64 * 1024
GRPC = "h2"
LINGER_ZERO = struct.pack("ii", 1, 0)  # closing resets the connection instead of ending it

type ProtocolFactory = Callable[[], asyncio.Protocol]


class Front:
    """Hands HTTP/1.1 to the web server's protocol, and pipes HTTP/2 to a port where gRPC listens."""

    def __init__(self, certificate: Certificate, *, http: ProtocolFactory, grpc_port: int) -> None:
        self._certificate = certificate
        self._http = http
        self._grpc_port = grpc_port
        self._server: asyncio.Server | None = None  # none before start
        self._pipes: dict[int, asyncio.StreamWriter] = {}  # clients by the port gRPC sees them at
        self._relays: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _ByAlpn(http=self._http, grpc=self._grpc),
            host,
            port,
            ssl=self._certificate.context,
            ssl_shutdown_timeout=1,
        )

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for relay in self._relays:
            relay.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)

    def reset(self, grpc_peer_port: int) -> None:
        """Tear down the connection of a client of gRPC."""
        writer = self._pipes.get(grpc_peer_port)
        if writer is not None:
            writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, LINGER_ZERO)
            writer.transport.abort()

    def _grpc(self) -> asyncio.Protocol:
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(), self._connected)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relay = asyncio.create_task(self._relay(reader, writer))
        self._relays.add(relay)
        relay.add_done_callback(self._relays.discard)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._grpc_port)
        except OSError:
            writer.transport.abort()
            return
        port = inner_writer.get_extra_info("sockname")[1]
        self._pipes[port] = writer
        try:
            await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))
        finally:
            del self._pipes[port]
            inner_writer.transport.abort()
            writer.transport.abort()


class _ByAlpn(asyncio.Protocol):
    """Lives from the handshake to the choice of who goes on."""

    def __init__(self, *, http: ProtocolFactory, grpc: ProtocolFactory) -> None:
        self._http = http
        self._grpc = grpc

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        settled = transport.get_extra_info("ssl_object").selected_alpn_protocol()
        protocol = self._grpc() if settled == GRPC else self._http()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what comes until one side ends; whoever calls closes both."""
    with suppress(OSError):
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
    writer.close()
