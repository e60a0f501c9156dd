"""More clients than can be served: a process of its own, which pays at a rate whatever the answers are.

Reads its task as JSON from stdin and prints what it saw as one JSON line.
"""

import asyncio
import json
import resource
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import uvloop

from tests.bench.load import Client, Connection, Task

OPENED_AT_ONCE = 32
FILES = 20_000


class Listening(Connection):
    """A connection that remembers whether the last answer said when to come again."""

    says_when = False
    is_closed = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        head, found, _ = (self._data + data).partition(b"\r\n\r\n")
        if found:
            self.says_when = b"\r\nretry-after:" in head.lower()
        super().data_received(data)


class Visitor(Client):
    """A session that pays now and then."""

    connection: Listening | None

    async def connect(self) -> None:
        address = urlsplit(self._task.url)
        host, port = address.hostname or "127.0.0.1", address.port or 80
        _, self.connection = await asyncio.get_running_loop().create_connection(Listening, host, port)

    async def come(self) -> int:
        """Pay, over a new connection if the edge has closed the last: it does so with idle ones."""
        if self.connection is None or self.connection.is_closed:
            await self.connect()
        return await self.pay()

    @property
    def was_told_when(self) -> bool:
        return self.connection is not None and self.connection.says_when


@dataclass
class Seen:
    """What came back: seconds by kind of answer."""

    answered: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    not_told_when: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    others: Counter[int] = field(default_factory=Counter)
    nobody_free: int = 0

    def note(self, status: int, seconds: float, *, told_when: bool) -> None:
        if status in {200, 480}:
            self.answered.append(seconds)
        elif status == 503:
            self.refused.append(seconds)
            self.not_told_when += not told_when
        else:
            self.others[status] += 1


async def run(task: Task) -> dict[str, Any]:
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))
    visitors = [Visitor(task, number, Counter()) for number in range(task.clients)]
    for start in range(0, len(visitors), OPENED_AT_ONCE):
        await asyncio.gather(*(_open(visitor) for visitor in visitors[start : start + OPENED_AT_ONCE]))
    seen, late = Seen(), 0.0
    free, running = list(visitors), set[asyncio.Task[None]]()
    began = time.perf_counter()
    for number in range(int(task.rate * task.seconds)):
        due = began + number / task.rate
        now = time.perf_counter()
        late = max(late, now - due)
        await asyncio.sleep(max(0.0, due - now))
        if not free:
            seen.nobody_free += 1
            continue
        visit = asyncio.create_task(_visit(free.pop(0), free, seen))
        running.add(visit)
        visit.add_done_callback(running.discard)
    seconds = time.perf_counter() - began
    await asyncio.gather(*running)
    return {"seconds": seconds, "late": late, **_told(seen)}


async def _open(visitor: Visitor) -> None:
    """Come to where payments need nobody but the signer: an allowance for a minute."""
    opened = 0
    while opened < 2:
        try:
            opened += await visitor.come() == 200
        except (OSError, TimeoutError):
            visitor.connection = None


async def _visit(visitor: Visitor, free: list[Visitor], seen: Seen) -> None:
    began = time.perf_counter()
    try:
        status = await visitor.come()
    except (OSError, TimeoutError) as problem:
        seen.broken[type(problem).__name__] += 1
        visitor.connection = None
    else:
        seen.note(status, time.perf_counter() - began, told_when=visitor.was_told_when)
    free.append(visitor)


def _told(seen: Seen) -> dict[str, Any]:
    return {
        "answered": len(seen.answered),
        "answered_p50": _quantile(seen.answered, 0.5),
        "answered_p99": _quantile(seen.answered, 0.99),
        "refused": len(seen.refused),
        "refused_p50": _quantile(seen.refused, 0.5),
        "refused_p99": _quantile(seen.refused, 0.99),
        "not_told_when": seen.not_told_when,
        "broken": dict(seen.broken),
        "others": {str(status): count for status, count in seen.others.items()},
        "nobody_free": seen.nobody_free,
    }


def _quantile(seconds: list[float], share: float) -> float:
    return sorted(seconds)[int(len(seconds) * share)] if seconds else 0.0


if __name__ == "__main__":
    sys.stdout.write(json.dumps(uvloop.run(run(Task(**json.load(sys.stdin))))) + "\n")
