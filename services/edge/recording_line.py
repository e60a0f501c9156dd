"""The queues of what metering is to record: what waits travels together, and is answered once durable."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import structlog

from shared import telemetry
from shared.bus import CommandRefusedError, ServiceUnavailableError

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much travels in one message, and how much may wait; a request alone is never cut."""

    items: int
    size: int  # bytes of the requests; as they are sent at most twice that
    waiting_items: int
    waiting_size: int


@dataclass(slots=True, eq=False)
class Waiting[Item, Outcome]:
    """What one request brings; `size` is that of its body."""

    items: Sequence[Item]
    size: int
    done: asyncio.Future[Sequence[Outcome]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class RecordingLine[Item, Outcome]:
    """One message is under way at a time; whoever comes meanwhile waits for the next one."""

    def __init__(
        self,
        name: str,
        ask: Callable[[list[Item]], Awaitable[Sequence[Outcome]]],
        bounds: Bounds,
        *,
        wait_seconds: float,
    ) -> None:
        """`ask` has all of a message recorded and says what became of each, in their order."""
        self._name = name
        self._ask = ask
        self._bounds = bounds
        self._wait_seconds = wait_seconds
        self._queue: deque[Waiting[Item, Outcome]] = deque()
        self.waiting_items = self._waiting_size = 0
        self._wake = asyncio.Event()

    async def record(self, items: Sequence[Item], size: int) -> Sequence[Outcome]:
        """Say of each what became of it; raise ServiceUnavailableError if that is not known in time."""
        bounds = self._bounds
        if (
            self.waiting_items + len(items) > bounds.waiting_items
            or self._waiting_size + size > bounds.waiting_size
        ):
            raise ServiceUnavailableError(f"too many {self._name} wait")
        waiting = Waiting[Item, Outcome](items, size)
        self._queue.append(waiting)
        self.waiting_items += len(items)
        self._waiting_size += size
        self._wake.set()
        try:
            async with asyncio.timeout(self._wait_seconds):
                return await waiting.done
        except TimeoutError:
            raise ServiceUnavailableError(f"{self._name} are not recorded in time") from None

    async def run(self) -> None:
        """Send for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while batch := self._take():
                await self._send(batch)

    def _take(self) -> list[Waiting[Item, Outcome]]:
        """Take what fits in one message, without those who gave up."""
        taken: list[Waiting[Item, Outcome]] = []
        items = size = 0
        while self._queue:
            first = self._queue[0]
            if not first.done.done():
                items, size = items + len(first.items), size + first.size
                if taken and (items > self._bounds.items or size > self._bounds.size):
                    break
                taken.append(first)
            self._queue.popleft()
            self.waiting_items -= len(first.items)
            self._waiting_size -= first.size
        return taken

    async def _send(self, batch: list[Waiting[Item, Outcome]]) -> None:
        items = [item for waiting in batch for item in waiting.items]
        telemetry.batch_size.labels(f"edge_{self._name.replace(' ', '_')}").observe(len(items))
        try:
            outcomes = await self._answered(items)
        except (ServiceUnavailableError, CommandRefusedError) as problem:
            log.warning("not_recorded", what=self._name, items=len(items), problem=str(problem))
            for waiting in batch:
                if not waiting.done.done():
                    waiting.done.set_exception(ServiceUnavailableError(str(problem)))
            return
        for waiting in batch:
            told, outcomes = outcomes[: len(waiting.items)], outcomes[len(waiting.items) :]
            if not waiting.done.done():
                waiting.done.set_result(told)

    async def _answered(self, items: list[Item]) -> Sequence[Outcome]:
        outcomes = await self._ask(items)
        if len(outcomes) != len(items):
            raise ServiceUnavailableError(f"metering answered of other {self._name}")
        return outcomes
