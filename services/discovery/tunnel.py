"""A port of ours that leads to an orchestrator, through TLS that takes any certificate.

Orchestrators sign their certificates themselves, and gRPC's Python library cannot be told to accept
that: it would have to be given each certificate as a root, and still refuse one that is out of date
or names nobody. So gRPC talks to us in the clear, and TLS begins here.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from services.discovery.outgoing import Origin

PIECE_BYTES = 64 * 1024
LOCALHOST = "127.0.0.1"


def any_certificate(*protocols: str) -> ssl.SSLContext:
    """TLS for servers that nobody vouches for; `protocols` are told to them in the handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(list(protocols))
    return context


@asynccontextmanager
async def tunnel(
    origin: Origin, addresses: Sequence[str], tls: ssl.SSLContext, *, bytes_max: int
) -> AsyncIterator[int]:
    """Connect to the first address that answers, and give a local port that leads there, once.

    What comes back is cut off after `bytes_max`. Raises OSError if no address answers.
    """
    far_reader, far_writer = await _connect(origin, addresses, tls)
    carrying: asyncio.Task[None] | None = None
    try:
        with socket.create_server((LOCALHOST, 0), backlog=1) as listening:
            listening.setblocking(False)
            carrying = asyncio.create_task(_carry(listening, far_reader, far_writer, bytes_max))
            yield listening.getsockname()[1]
    finally:
        if carrying is not None:
            carrying.cancel()
            await asyncio.wait([carrying])
        far_writer.transport.abort()  # a hostile end need not agree to a close


async def _connect(
    origin: Origin, addresses: Sequence[str], tls: ssl.SSLContext
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    problems: list[OSError] = []
    for address in addresses:
        try:
            if origin.is_tls:
                return await asyncio.open_connection(
                    address, origin.port, ssl=tls, server_hostname=origin.host
                )
            return await asyncio.open_connection(address, origin.port)
        except OSError as problem:
            problems.append(problem)
    raise problems[-1]


async def _carry(
    listening: socket.socket,
    far_reader: asyncio.StreamReader,
    far_writer: asyncio.StreamWriter,
    bytes_max: int,
) -> None:
    accepted, _ = await asyncio.get_running_loop().sock_accept(listening)
    near_reader, near_writer = await asyncio.open_connection(sock=accepted)
    there = asyncio.create_task(_copy(near_reader, far_writer, bytes_max))
    back = asyncio.create_task(_copy(far_reader, near_writer, bytes_max))
    try:
        await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for copying in (there, back):
            copying.cancel()
        await asyncio.wait([there, back])
        near_writer.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, bytes_max: int) -> None:
    """Copy until an end is reached: the reader's, the writer's, or ours."""
    with contextlib.suppress(OSError):
        while bytes_max > 0 and (piece := await reader.read(min(PIECE_BYTES, bytes_max))):
            bytes_max -= len(piece)
            writer.write(piece)
            await writer.drain()
