"""Gathers payments that wait and sends them to the signer, many in one message.

Nothing lingers: whoever comes while messages are under way waits for the next one, so batches grow
with load. At most two messages of a partition are in flight; the signer answers each with one or
more `PaymentAnswers`, each request once. Each request gives up at its own deadline.

A partition keeps caches warm, it is not what makes payments correct. So where nobody serves it, or
its signer says nothing for a moment, the next partition's is asked. To the signers the same request
twice is one payment; a message that is found when all in it have given up is left unread. What fails
in passing, as while a store fails over, is asked again as long as there is time: clients wait longer
than that before they come back.
"""

import asyncio
import secrets
from zlib import crc32

from nats.aio.msg import Msg

from contracts.signer import (
    GeneratePayment,
    GeneratePayments,
)
from contracts.streams import inbox_of
from services.edge.line import Bus, Line, Outcome


def partition_of(account_id: str, partitions: int) -> int:
    """Which signer serves an account: the same everywhere and for ever."""
    return crc32(account_id.encode()) % partitions


class Gatherer:
    def __init__(self, bus: Bus, *, partitions: int, timeout_seconds: float, waiting_max: int) -> None:
        inbox = f"{inbox_of('edge')}.payments-{secrets.token_hex(8)}"
        self._bus = bus
        self._inbox = inbox
        self._lines = [
            Line(
                bus,
                subjects=[
                    f"{GeneratePayments.subject}.{(partition + hop) % partitions}"
                    for hop in range(partitions)
                ],
                inbox=f"{inbox}.{partition}",
                timeout_seconds=timeout_seconds,
                waiting_max=waiting_max,
            )
            for partition in range(partitions)
        ]

    async def run(self) -> None:
        """Send for ever."""
        await self._bus.subscribe(f"{self._inbox}.*.*", cb=self._on_message)
        async with asyncio.TaskGroup() as group:
            for line in self._lines:
                group.create_task(line.run())

    async def generate(self, request: GeneratePayment, size: int) -> Outcome:
        """What the signer says to a request; never later than the deadline. `size` in bytes."""
        line = self._lines[partition_of(request.account_id, len(self._lines))]
        return await line.put(request, size)

    async def _on_message(self, message: Msg) -> None:
        partition, number = message.subject.split(".")[-2:]
        self._lines[int(partition)].take_answers(int(number), message)
