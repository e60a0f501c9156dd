"""A way to one of several servers, by TCP: `python -m tests.faults.outlive.way PORT SERVER[=READY] …`.

Servers are named by port, and READY is the port of their /readyz. To edges it is what a load
balancer is in front of replicas: a new connection goes to the next one that is ready and takes it.
In front of the chain it is what can be halted without halting the chain.
"""

import asyncio
import contextlib
import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass

CHUNK_BYTES = 65_536
PROBE_SECONDS = 0.5  # between probes, and the longest that one may take
CONNECT_SECONDS = 1.0
HOST = "127.0.0.1"


@dataclass
class Server:
    port: int
    ready_port: int | None
    ready: bool = True

    async def probe(self) -> None:
        """Ask for ever whether it is ready; one that has no such port always is."""
        while self.ready_port is not None:
            try:
                async with asyncio.timeout(PROBE_SECONDS):
                    self.ready = await _answers_200(self.ready_port)
            except (OSError, TimeoutError):
                self.ready = False
            await asyncio.sleep(PROBE_SECONDS)


class Way:
    def __init__(self, servers: Sequence[Server]) -> None:
        self._servers = servers
        self._turn = itertools.count()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass bytes on, both ways, until both ends are closed."""
        with contextlib.suppress(OSError):
            further = await self._connect()
            if further is not None:
                await asyncio.gather(_pass_on(reader, further[1]), _pass_on(further[0], writer))
        writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        turn = next(self._turn) % len(self._servers)
        in_turn = [*self._servers[turn:], *self._servers[:turn]]
        for server in sorted(in_turn, key=lambda server: not server.ready):
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(CONNECT_SECONDS):
                    return await asyncio.open_connection(HOST, server.port)
        return None


async def _answers_200(port: int) -> bool:
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n")
        return b" 200 " in await reader.readline()
    finally:
        writer.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
    writer.close()


async def main(port: int, servers: Sequence[Server]) -> None:
    listening = await asyncio.start_server(Way(servers).serve, HOST, port)
    async with asyncio.TaskGroup() as group:
        for server in servers:
            group.create_task(server.probe())
        group.create_task(listening.serve_forever())


def _read(argument: str) -> Server:
    port, _, ready_port = argument.partition("=")
    return Server(int(port), int(ready_port) if ready_port else None)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), [_read(argument) for argument in sys.argv[2:]]))
