"""The queue of deliveries: what waits travels to metering together, and is answered once durable."""

import asyncio
from collections import deque
from dataclasses import dataclass, field

import structlog
from nats.aio.client import Client

from contracts.webhooks_in import DELIVERIES_MAX, DeliveriesRecorded, Delivery, RecordDeliveries
from shared import telemetry
from shared.bus import CommandRefusedError, ServiceUnavailableError, ask

log = structlog.get_logger()

WAIT_SECONDS = 4.0  # Livepeer Studio gives up after 5
ASK_SECONDS = 3.5
WAITING_MAX = 500  # of up to 256 KiB each
BODY_BYTES_MAX = 1536 * 1024  # of one message; escaped as JSON at most twice that


@dataclass(slots=True, eq=False)
class Waiting:
    delivery: Delivery
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class DeliveryLine:
    """One message is under way at a time; whoever comes meanwhile waits for the next one."""

    def __init__(
        self, client: Client, *, wait_seconds: float = WAIT_SECONDS, waiting_max: int = WAITING_MAX
    ) -> None:
        self._client = client
        self._wait_seconds = wait_seconds
        self._waiting_max = waiting_max
        self._queue: deque[Waiting] = deque()
        self._wake = asyncio.Event()

    async def record(self, delivery: Delivery) -> None:
        """Return once it is durable; raise ServiceUnavailableError if that is not so in time."""
        if len(self._queue) >= self._waiting_max:
            raise ServiceUnavailableError("too many deliveries wait")
        waiting = Waiting(delivery)
        self._queue.append(waiting)
        self._wake.set()
        try:
            async with asyncio.timeout(self._wait_seconds):
                await waiting.done
        except TimeoutError:
            raise ServiceUnavailableError("deliveries are not recorded in time") from None

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
        size = 0
        while self._queue and len(taken) < DELIVERIES_MAX:
            size += len(self._queue[0].delivery.body)
            if taken and size > BODY_BYTES_MAX:
                break
            waiting = self._queue.popleft()
            if not waiting.done.done():
                taken.append(waiting)
        return taken

    async def _send(self, batch: list[Waiting]) -> None:
        telemetry.batch_size.labels("edge_deliveries").observe(len(batch))
        command = RecordDeliveries(deliveries=[waiting.delivery for waiting in batch])
        try:
            await ask(self._client, command, DeliveriesRecorded, timeout=ASK_SECONDS)
        except (ServiceUnavailableError, CommandRefusedError) as problem:
            log.warning("deliveries_not_recorded", deliveries=len(batch), problem=str(problem))
            for waiting in batch:
                if not waiting.done.done():
                    waiting.done.set_exception(ServiceUnavailableError(str(problem)))
        else:
            for waiting in batch:
                if not waiting.done.done():
                    waiting.done.set_result(None)
