"""The queue of signed tickets: what waits travels to metering together, and is answered once durable."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import structlog
from nats.aio.client import Client

from contracts.signed_tickets import TICKETS_MAX, RecordSignedTickets, SignedTicket, SignedTicketsAnswered
from shared import telemetry
from shared.bus import CommandRefusedError, ServiceUnavailableError, ask

log = structlog.get_logger()

WAIT_SECONDS = 5.0
ASK_SECONDS = 4.0
WAITING_MAX = 10_000  # tickets, of some 500 bytes each

type Outcome = Literal["recorded", "repeated"]


@dataclass(slots=True, eq=False)
class Waiting:
    tickets: Sequence[SignedTicket]
    done: asyncio.Future[Sequence[Outcome]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class TicketLine:
    """One message is under way at a time; whoever comes meanwhile waits for the next one."""

    def __init__(self, client: Client, *, wait_seconds: float = WAIT_SECONDS) -> None:
        self._client = client
        self._wait_seconds = wait_seconds
        self._queue: deque[Waiting] = deque()
        self._waiting = 0  # tickets
        self._wake = asyncio.Event()

    async def record(self, tickets: Sequence[SignedTicket]) -> Sequence[Outcome]:
        """Say of each what became of it; raise ServiceUnavailableError if that is not known in time.

        At most TICKETS_MAX at once.
        """
        if self._waiting + len(tickets) > WAITING_MAX:
            raise ServiceUnavailableError("too many signed tickets wait")
        waiting = Waiting(tickets)
        self._queue.append(waiting)
        self._waiting += len(tickets)
        self._wake.set()
        try:
            async with asyncio.timeout(self._wait_seconds):
                return await waiting.done
        except TimeoutError:
            raise ServiceUnavailableError("signed tickets are not recorded in time") from None

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
        tickets = 0
        while self._queue and tickets + len(self._queue[0].tickets) <= TICKETS_MAX:
            waiting = self._queue.popleft()
            self._waiting -= len(waiting.tickets)
            if not waiting.done.done():
                taken.append(waiting)
                tickets += len(waiting.tickets)
        return taken

    async def _send(self, batch: list[Waiting]) -> None:
        tickets = [ticket for waiting in batch for ticket in waiting.tickets]
        telemetry.batch_size.labels("edge_signed_tickets").observe(len(tickets))
        try:
            outcomes = await self._ask(tickets)
        except (ServiceUnavailableError, CommandRefusedError) as problem:
            log.warning("signed_tickets_not_recorded", tickets=len(tickets), problem=str(problem))
            for waiting in batch:
                if not waiting.done.done():
                    waiting.done.set_exception(ServiceUnavailableError(str(problem)))
            return
        for waiting in batch:
            told, outcomes = outcomes[: len(waiting.tickets)], outcomes[len(waiting.tickets) :]
            if not waiting.done.done():
                waiting.done.set_result(told)

    async def _ask(self, tickets: list[SignedTicket]) -> Sequence[Outcome]:
        command = RecordSignedTickets(tickets=tickets)
        answered = await ask(self._client, command, SignedTicketsAnswered, timeout=ASK_SECONDS)
        if len(answered.outcomes) != len(tickets):
            raise ServiceUnavailableError("metering answered of other tickets")
        return answered.outcomes
