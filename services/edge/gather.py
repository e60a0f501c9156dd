"""Gathers payments that wait and sends them to the signer, many in one message.

Nothing lingers: whoever comes while messages are under way waits for the next one, so batches grow
with load. At most two messages of a partition are in flight; the signer answers each with one or
more `PaymentAnswers`, each request once. Each request gives up at its own deadline.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol
from zlib import crc32

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from pydantic import TypeAdapter, ValidationError

from contracts.message import Fault, Refusal
from contracts.signer import (
    REQUESTS_MAX,
    GeneratePayment,
    GeneratePayments,
    PaymentAnswers,
    PaymentRefusedAnswer,
    PaymentSignedAnswer,
)
from contracts.streams import inbox_of
from shared import telemetry

log = structlog.get_logger()

BODY_BYTES_MAX = 384 * 1024  # of one message; escaped as JSON at most twice that
IN_FLIGHT_MAX = 2  # more would make batches smaller: 64 clients in 4 messages are 16 each
NO_RESPONDERS = "503"
REPLY: TypeAdapter[PaymentAnswers | Refusal | Fault] = TypeAdapter(PaymentAnswers | Refusal | Fault)


@dataclass(frozen=True, slots=True)
class Unanswered:
    """The signer did not answer; asking again may help."""

    reason: Literal["timeout", "no_signer", "queue_full", "signer_failed"]


type Outcome = PaymentSignedAnswer | PaymentRefusedAnswer | Unanswered


class Bus(Protocol):
    """What of a NATS client the gatherer needs."""

    @property
    def is_connected(self) -> bool: ...

    async def publish(self, subject: str, payload: bytes = ..., reply: str = ...) -> None: ...

    async def subscribe(
        self, subject: str, queue: str = ..., cb: Callable[[Msg], Awaitable[None]] | None = ...
    ) -> Any: ...


@dataclass(slots=True, eq=False)
class Waiting:
    """One client's request."""

    request: GeneratePayment
    size: int
    answer: asyncio.Future[Outcome]
    timer: asyncio.TimerHandle | None = None
    batch: "Batch | None" = None
    settled: bool = False


@dataclass(slots=True, eq=False)
class Batch:
    """One message; `landed` once its first answers came."""

    number: int
    requests: list[Waiting]
    open: int
    landed: bool = False


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
                subject=f"{GeneratePayments.subject}.{partition}",
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


@dataclass(slots=True, eq=False)
class Line:
    """The queue of one partition."""

    bus: Bus
    subject: str
    inbox: str
    timeout_seconds: float
    waiting_max: int
    _queue: deque[Waiting] = field(default_factory=deque)
    _batches: dict[int, Batch] = field(default_factory=dict)
    _in_flight: int = 0
    _number: int = 0
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue and self._in_flight < IN_FLIGHT_MAX:
                await self._send(self._take())

    def put(self, request: GeneratePayment, size: int) -> asyncio.Future[Outcome]:
        loop = asyncio.get_running_loop()
        waiting = Waiting(request, size, loop.create_future())
        if not self.bus.is_connected:
            self._settle(waiting, Unanswered("no_signer"))
        elif len(self._queue) >= self.waiting_max:
            self._settle(waiting, Unanswered("queue_full"))
        else:
            waiting.timer = loop.call_later(self.timeout_seconds, self._give_up, waiting)
            self._queue.append(waiting)
            self._wake.set()
        return waiting.answer

    def take_answers(self, number: int, message: Msg) -> None:
        batch = self._batches.get(number)
        if batch is None:
            return  # all its requests gave up
        if not batch.landed:
            self._land(batch)
        if message.headers and message.headers.get("Status") == NO_RESPONDERS:
            self._fail(batch, Unanswered("no_signer"))
            return
        try:
            reply = REPLY.validate_json(message.data)
        except ValidationError as problem:
            # Without its input: an answer holds what was signed. The deadlines answer.
            log.error("unreadable_payment_answers", problems=problem.errors(include_input=False)[:3])
            return
        if isinstance(reply, PaymentAnswers):
            for answer in reply.answers:
                if 0 <= answer.index < len(batch.requests):
                    self._settle(batch.requests[answer.index], answer)
        else:
            log.error("payments_failed", reply=reply.message)
            self._fail(batch, Unanswered("signer_failed"))

    def _take(self) -> Batch:
        """Take from the queue what fits in one message."""
        taken: list[Waiting] = []
        size = 0
        while self._queue and len(taken) < REQUESTS_MAX:
            size += self._queue[0].size
            if taken and size > BODY_BYTES_MAX:
                break
            waiting = self._queue.popleft()
            if not waiting.settled:
                taken.append(waiting)
        self._number += 1
        batch = Batch(self._number, taken, len(taken))
        for waiting in taken:
            waiting.batch = batch
        return batch

    async def _send(self, batch: Batch) -> None:
        if not batch.requests:
            return
        self._batches[batch.number] = batch
        self._in_flight += 1
        command = GeneratePayments(requests=[waiting.request for waiting in batch.requests])
        telemetry.batch_size.labels("edge_payments").observe(len(batch.requests))
        try:
            payload = command.model_dump_json().encode()
            await self.bus.publish(self.subject, payload, reply=f"{self.inbox}.{batch.number}")
        except (NatsError, OSError) as problem:
            log.warning("payments_not_sent", problem=repr(problem))
            self._fail(batch, Unanswered("no_signer"))

    def _give_up(self, waiting: Waiting) -> None:
        self._settle(waiting, Unanswered("timeout"))
        while self._queue and self._queue[0].settled:
            self._queue.popleft()

    def _fail(self, batch: Batch, outcome: Unanswered) -> None:
        for waiting in batch.requests:
            self._settle(waiting, outcome)

    def _settle(self, waiting: Waiting, outcome: Outcome) -> None:
        """Answer a request once; what comes later is dropped."""
        if waiting.settled:
            return
        waiting.settled = True
        if waiting.timer is not None:
            waiting.timer.cancel()
        if not waiting.answer.done():
            waiting.answer.set_result(outcome)
        if (batch := waiting.batch) is not None:
            batch.open -= 1
            if not batch.open:
                del self._batches[batch.number]
                self._land(batch)
                batch.requests.clear()  # or they hold each other, and their answers, for a long time

    def _land(self, batch: Batch) -> None:
        """Make room for the next message."""
        if not batch.landed:
            batch.landed = True
            self._in_flight -= 1
            self._wake.set()
