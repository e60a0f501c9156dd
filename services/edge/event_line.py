"""The queue of pushed usage: what waits travels to metering together, and is answered once durable."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog
from nats.aio.client import Client

from contracts.usage_events import (
    EVENTS_MAX,
    EventOutcome,
    RecordUsageEvents,
    UsageEvent,
    UsageEventsAnswered,
)
from shared import telemetry
from shared.bus import CommandRefusedError, ServiceUnavailableError, ask

log = structlog.get_logger()

WAIT_SECONDS = 5.0
ASK_SECONDS = 4.0
WAITING_EVENTS_MAX = 20_000
WAITING_BYTES_MAX = 32 * 1024 * 1024
BODY_BYTES_MAX = 1536 * 1024  # of the requests in one message; as it is sent at most twice that


@dataclass(slots=True, eq=False)
class Waiting:
    """A request's events; `size` is that of its body."""

    events: Sequence[UsageEvent]
    size: int
    done: asyncio.Future[Sequence[EventOutcome]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class EventLine:
    """One message is under way at a time; whoever comes meanwhile waits for the next one."""

    def __init__(self, client: Client, *, wait_seconds: float = WAIT_SECONDS) -> None:
        self._client = client
        self._wait_seconds = wait_seconds
        self._queue: deque[Waiting] = deque()
        self._events = self._bytes = 0  # that wait
        self._wake = asyncio.Event()

    async def record(self, events: Sequence[UsageEvent], size: int) -> Sequence[EventOutcome]:
        """Say of each what became of it; raise ServiceUnavailableError if that is not known in time."""
        if self._events + len(events) > WAITING_EVENTS_MAX or self._bytes + size > WAITING_BYTES_MAX:
            raise ServiceUnavailableError("too much usage waits")
        waiting = Waiting(events, size)
        self._queue.append(waiting)
        self._events += len(events)
        self._bytes += size
        self._wake.set()
        try:
            async with asyncio.timeout(self._wait_seconds):
                return await waiting.done
        except TimeoutError:
            raise ServiceUnavailableError("usage is not recorded in time") from None

    async def run(self) -> None:
        """Send for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while batch := self._take():
                await self._send(batch)

    def _take(self) -> list[Waiting]:
        """Take what fits in one message, without those who gave up."""
        taken: list[Waiting] = []
        events = size = 0
        while self._queue:
            first = self._queue[0]
            events += len(first.events)
            size += first.size
            if taken and (events > EVENTS_MAX or size > BODY_BYTES_MAX):
                break
            self._queue.popleft()
            self._events -= len(first.events)
            self._bytes -= first.size
            if first.done.done():
                events, size = events - len(first.events), size - first.size
            else:
                taken.append(first)
        return taken

    async def _send(self, batch: list[Waiting]) -> None:
        events = [event for waiting in batch for event in waiting.events]
        telemetry.batch_size.labels("edge_usage_events").observe(len(events))
        try:
            outcomes = await self._ask(events)
        except (ServiceUnavailableError, CommandRefusedError) as problem:
            log.warning("usage_events_not_recorded", events=len(events), problem=str(problem))
            for waiting in batch:
                if not waiting.done.done():
                    waiting.done.set_exception(ServiceUnavailableError(str(problem)))
            return
        for waiting in batch:
            told, outcomes = outcomes[: len(waiting.events)], outcomes[len(waiting.events) :]
            if not waiting.done.done():
                waiting.done.set_result(told)

    async def _ask(self, events: list[UsageEvent]) -> Sequence[EventOutcome]:
        command = RecordUsageEvents(events=events)
        answered = await ask(self._client, command, UsageEventsAnswered, timeout=ASK_SECONDS)
        if len(answered.outcomes) != len(events):
            raise ServiceUnavailableError("metering answered of other events")
        return answered.outcomes
