"""The load generator, a process of its own: clients that pay through the edge's HTTP wire.

Reads its task as JSON from stdin and prints what it saw as one JSON line.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import urlsplit

import uvloop

from tests.quotes import QuoteMaker

EV_WEI = 1000
TIMEOUT_SECONDS = 10


@dataclass(frozen=True)
class Task:
    """What to do. `kind`: warm (closed loop), fresh (a session a payment), open (at a rate)."""

    kind: str
    url: str
    api_keys: list[str]
    clients: int
    seconds: float
    warm_up_seconds: float
    l1_block: int
    round: int
    round_hash: str
    rate: float = 0


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection, kept alive; one request at a time."""

    def __init__(self) -> None:
        self._data = b""
        self._answer: asyncio.Future[tuple[int, str]] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionError("closed"))

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, found, body = self._data.partition(b"\r\n\r\n")
        if not found or self._answer is None:
            return
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        if len(body) >= length:
            self._data = b""
            self._answer.set_result((int(head[9:12]), body[:length].decode()))

    async def request(self, data: bytes) -> tuple[int, str]:
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(data)
        return await asyncio.wait_for(self._answer, TIMEOUT_SECONDS)


class Client:
    """Pays like the SDK: carries the state, gets new params when told to refresh."""

    def __init__(self, task: Task, number: int, seen: Counter[int]) -> None:
        host = urlsplit(task.url).netloc
        key = task.api_keys[number % len(task.api_keys)]
        self._head = (
            f"POST /generate-live-payment HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n"
        )
        self._task = task
        self._name = f"bench-{number}-{time.time_ns():x}"
        self._sessions = 0
        self._seen = seen
        self._state = ""
        self._quote = self._make_quote()
        self.connection: Connection | None = None

    async def connect(self) -> None:
        address = urlsplit(self._task.url)
        loop = asyncio.get_running_loop()
        host, port = address.hostname or "127.0.0.1", address.port or 80
        _, self.connection = await loop.create_connection(Connection, host, port)

    def forget(self) -> None:
        """Begin a new payment session with the next payment."""
        self._sessions += 1
        self._state = ""
        self._quote = self._make_quote()

    async def pay(self) -> int:
        assert self.connection is not None
        state = f',"state":{self._state}' if self._state else ""
        body = (
            f'{{"orchestrator":"{self._quote}","type":"live","app":"bench",'
            f'"ManifestID":"{self._name}-{self._sessions}"{state}}}'
        )
        head = f"{self._head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        status, reply = await self.connection.request((head + body).encode())
        self._seen[status] += 1
        if status == 200:
            self._state = reply[reply.index('"state":') + 8 : reply.rindex("}")]
        elif status == 480:
            self._quote = self._make_quote()
        return status

    def _make_quote(self) -> str:
        task = self._task
        return QuoteMaker(
            datetime.now(UTC),
            price_per_unit=EV_WEI,
            ev=EV_WEI,
            face_value=1000 * EV_WEI,
            expiration_block=task.l1_block + 40,
            creation_round=task.round,
            creation_round_hash=bytes.fromhex(task.round_hash),
        ).text()


async def run(task: Task) -> dict[str, Any]:
    seen: Counter[int] = Counter()
    clients = [Client(task, number, seen) for number in range(task.clients)]
    await asyncio.gather(*(client.connect() for client in clients))
    for _ in range(2):  # the second payment of a session brings its allowance for a minute
        await asyncio.gather(*(client.pay() for client in clients))
    kinds: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
        "warm": closed_loop,
        "fresh": closed_loop,
        "open": open_loop,
    }
    seen.clear()
    measured = await kinds[task.kind](task, clients, seen)
    return {**measured, "statuses": {str(status): count for status, count in seen.items()}}


async def closed_loop(task: Task, clients: list[Client], seen: Counter[int]) -> dict[str, Any]:
    """Each client pays again as soon as it was answered."""
    stop = False

    async def work(client: Client) -> None:
        while not stop:
            if task.kind == "fresh":
                client.forget()
            await client.pay()

    workers = [asyncio.create_task(work(client)) for client in clients]
    await asyncio.sleep(task.warm_up_seconds)
    before, began = seen[200], time.perf_counter()
    await asyncio.sleep(task.seconds)
    count, seconds = seen[200] - before, time.perf_counter() - began
    stop = True
    await asyncio.gather(*workers)
    return {"per_second": count / seconds, "count": count}


async def open_loop(task: Task, clients: list[Client], seen: Counter[int]) -> dict[str, Any]:
    """A payment is due every 1/rate seconds, whoever is still waiting for an answer."""
    latencies: list[float] = []
    free = list(clients)
    running: set[asyncio.Task[None]] = set()

    async def pay(client: Client, due: float) -> None:
        await client.pay()
        latencies.append(time.perf_counter() - due)
        free.append(client)

    await asyncio.sleep(task.warm_up_seconds)
    began = time.perf_counter()
    for number in range(int(task.rate * task.seconds)):
        due = began + number / task.rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        payment = asyncio.create_task(pay(free.pop(0), due))
        running.add(payment)
        payment.add_done_callback(running.discard)
    await asyncio.gather(*running)
    latencies.sort()
    assert seen
    return {
        "p50_ms": latencies[len(latencies) // 2] * 1000,
        "p99_ms": latencies[int(len(latencies) * 0.99)] * 1000,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(uvloop.run(run(Task(**json.load(sys.stdin))))) + "\n")
