"""The queue of one partition: sends what waits to its signer, and hears the answers."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

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
from shared import telemetry

log = structlog.get_logger()

BODY_BYTES_MAX = 384 * 1024  # of one message; escaped as JSON at most twice that
IN_FLIGHT_MAX = 2  # more would make batches smaller: 64 clients in 4 messages are 16 each
NO_RESPONDERS = "503"
SILENCE_SECONDS = 0.8  # without any answer, before another signer is asked
DETOUR_SECONDS = 2.0  # for which a silent signer is spared
AGAIN_SECONDS = 0.25  # after which what failed in passing is asked again
PASSING = frozenset({"store_unavailable", "quota_unavailable", "too_many_conflicts"})
AWAY_SECONDS = 1.0  # for which a lost connection is waited for before requests are refused at once
RECONNECT_POLL_SECONDS = 0.02
# Of a request's time, in the queue. Whoever is sent with too little of it left is answered too late,
# and if all are, nobody is served: so the next are refused while there is time for those who wait.
FULL_SHARE = 0.4  # of the longest wait there is; then nobody else is let in
STALE_SHARE = 0.6  # then a request is not sent any more
EXPIRY_SECONDS = 3.0  # after the last deadline; clocks may differ by that
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
    at: float  # since when it is in the queue, by the loop's clock
    timer: asyncio.TimerHandle | None = None
    batches: list["Batch"] = field(default_factory=list)  # those it was sent in
    settled: bool = False


@dataclass(slots=True, eq=False)
class Batch:
    """One message; `landed` once its first answers came, or somebody else was asked."""

    number: int
    requests: list[Waiting]
    open: int
    first: int  # the place of the signer that was asked first
    asked: int  # how many were asked before this one
    landed: bool = False
    timer: asyncio.TimerHandle | None = None


@dataclass(slots=True, eq=False)
class Line:
    """The queue of one partition."""

    bus: Bus
    subjects: list[str]  # of the signers to ask, its own first
    inbox: str
    timeout_seconds: float
    waiting_max: int
    _queue: deque[Waiting] = field(default_factory=deque)
    _batches: dict[int, Batch] = field(default_factory=dict)
    _in_flight: int = 0
    _number: int = 0
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _away_at: float | None = None  # since when the connection is gone
    _detour_until: float = 0.0  # until then its own signer is not asked first
    _sending: set[asyncio.Task[None]] = field(default_factory=set)
    _held_until: float = 0.0  # when there was no connection last: nobody's fault but the bus's
    _heard_at: dict[str, float] = field(default_factory=dict)  # by subject

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue and self._in_flight < IN_FLIGHT_MAX:
                if self.bus.is_connected:
                    await self._send(self._take())
                else:
                    await asyncio.sleep(RECONNECT_POLL_SECONDS)
                    self._held_until = asyncio.get_running_loop().time()

    def put(self, request: GeneratePayment, size: int) -> asyncio.Future[Outcome]:
        loop = asyncio.get_running_loop()
        waiting = Waiting(request, size, loop.create_future(), loop.time())
        if self._is_away(loop.time()):
            self._settle(waiting, Unanswered("no_signer"))
        elif len(self._queue) >= self.waiting_max or self._is_full(loop.time()):
            self._settle(waiting, Unanswered("queue_full"))
        else:
            waiting.timer = loop.call_later(self.timeout_seconds, self._give_up, waiting)
            self._queue.append(waiting)
            self._wake.set()
        return waiting.answer

    def _is_away(self, now: float) -> bool:
        """Whether the connection has been gone for longer than a server takes to restart."""
        if self.bus.is_connected:
            self._away_at = None
        elif self._away_at is None:
            self._away_at = now
        return self._away_at is not None and now - self._away_at > AWAY_SECONDS

    def _is_full(self, now: float) -> bool:
        """Whether whoever joins the queue now would wait too long."""
        while self._queue and self._queue[0].settled:
            self._queue.popleft()
        return bool(self._queue) and self._has_waited(self._queue[0], FULL_SHARE, now)

    def _has_waited(self, waiting: Waiting, share: float, now: float) -> bool:
        return now - max(waiting.at, self._held_until) > share * self.timeout_seconds

    def take_answers(self, number: int, message: Msg) -> None:
        batch = self._batches.get(number)
        if batch is None:
            return  # all its requests gave up
        if message.headers and message.headers.get("Status") == NO_RESPONDERS:
            self._find_nobody(batch)
            return
        self._heard_at[self._subject(batch)] = asyncio.get_running_loop().time()
        self._land(batch)
        try:
            reply = REPLY.validate_json(message.data)
        except ValidationError as problem:
            # Without its input: an answer holds what was signed. The deadlines answer.
            log.error("unreadable_payment_answers", problems=problem.errors(include_input=False)[:3])
            return
        if isinstance(reply, PaymentAnswers):
            for answer in reply.answers:
                if 0 <= answer.index < len(batch.requests):
                    self._hear(batch.requests[answer.index], answer)
        else:
            log.error("payments_failed", reply=reply.message)
            self._fail(batch, Unanswered("signer_failed"))

    def _take(self) -> list[Waiting]:
        """Take from the queue what fits in one message."""
        now = asyncio.get_running_loop().time()
        taken: list[Waiting] = []
        size = 0
        while self._queue and len(taken) < REQUESTS_MAX:
            waiting = self._queue[0]
            if taken and size + waiting.size > BODY_BYTES_MAX:
                break
            self._queue.popleft()
            if self._has_waited(waiting, STALE_SHARE, now):
                self._settle(waiting, Unanswered("queue_full"))
            if not waiting.settled:
                taken.append(waiting)
                size += waiting.size
        return taken

    async def _send(self, requests: list[Waiting], first: int | None = None, asked: int = 0) -> None:
        """Ask the line's own signer, or the one so many places further on."""
        if not requests:
            return
        loop = asyncio.get_running_loop()
        if first is None:
            first = 1 if loop.time() < self._detour_until else 0
        batch = self._register(requests, first, asked)
        expires_at = time.time() + self.timeout_seconds + EXPIRY_SECONDS
        command = GeneratePayments(
            requests=[waiting.request for waiting in requests], expires_at_ms=int(expires_at * 1000)
        )
        telemetry.batch_size.labels("edge_payments").observe(len(requests))
        try:
            payload = command.model_dump_json().encode()
            await self.bus.publish(self._subject(batch), payload, reply=f"{self.inbox}.{batch.number}")
        except (NatsError, OSError) as problem:
            log.warning("payments_not_sent", problem=repr(problem))
            self._fail(batch, Unanswered("no_signer"))
        else:
            if batch.open and not batch.landed:
                batch.timer = loop.call_later(SILENCE_SECONDS, self._hear_nothing, batch)

    def _register(self, requests: list[Waiting], first: int, asked: int) -> Batch:
        self._number += 1
        self._in_flight += 1
        batch = Batch(self._number, requests, len(requests), first, asked)
        self._batches[batch.number] = batch
        for waiting in requests:
            waiting.batches.append(batch)
        return batch

    def _subject(self, batch: Batch) -> str:
        return self.subjects[(batch.first + batch.asked) % len(self.subjects)]

    def _hear_nothing(self, batch: Batch) -> None:
        """Its signer hangs, or went away in the middle of it: ask the next one."""
        if self._asked_all(batch):
            return  # it may still answer before the deadline
        now = asyncio.get_running_loop().time()
        if now - self._heard_at.get(self._subject(batch), 0.0) < SILENCE_SECONDS:
            # It answers others: it is busy, and asking somebody else as well would make both so.
            batch.timer = asyncio.get_running_loop().call_later(SILENCE_SECONDS, self._hear_nothing, batch)
            return
        log.warning("signer_silent", subject=self._subject(batch))
        if batch.first == batch.asked == 0:
            self._detour_until = now + DETOUR_SECONDS
        self._ask_next(batch)

    def _find_nobody(self, batch: Batch) -> None:
        """Nobody serves this partition: ask the next, or tell the clients if all were asked."""
        if self._asked_all(batch):
            self._fail(batch, Unanswered("no_signer"))
        else:
            self._ask_next(batch)

    def _asked_all(self, batch: Batch) -> bool:
        return batch.asked + 1 >= len(self.subjects)

    def _ask_next(self, batch: Batch) -> None:
        """Send what is open to the next signer as well; whoever answers first is heard."""
        self._land(batch)
        still_open = [waiting for waiting in batch.requests if not waiting.settled]
        sending = asyncio.create_task(self._send(still_open, batch.first, batch.asked + 1))
        self._sending.add(sending)
        sending.add_done_callback(self._sending.discard)

    def _give_up(self, waiting: Waiting) -> None:
        self._settle(waiting, Unanswered("timeout"))
        while self._queue and self._queue[0].settled:
            self._queue.popleft()

    def _fail(self, batch: Batch, outcome: Unanswered) -> None:
        for waiting in list(batch.requests):
            self._settle(waiting, outcome)

    def _hear(self, waiting: Waiting, answer: PaymentSignedAnswer | PaymentRefusedAnswer) -> None:
        """Take an answer, unless the next one may be better and comes in time."""
        loop = asyncio.get_running_loop()
        passing = isinstance(answer, PaymentRefusedAnswer) and answer.reason in PASSING
        has_time = waiting.timer is not None and loop.time() + 2 * AGAIN_SECONDS < waiting.timer.when()
        if not passing or not has_time or len(self._queue) >= self.waiting_max:
            self._settle(waiting, answer)
        elif not waiting.settled:
            self._leave_batches(waiting)
            loop.call_later(AGAIN_SECONDS, self._queue_again, waiting)

    def _queue_again(self, waiting: Waiting) -> None:
        if not waiting.settled:
            waiting.at = asyncio.get_running_loop().time()
            self._queue.append(waiting)
            self._wake.set()

    def _settle(self, waiting: Waiting, outcome: Outcome) -> None:
        """Answer a request once; what comes later is dropped."""
        if waiting.settled:
            return
        waiting.settled = True
        if waiting.timer is not None:
            waiting.timer.cancel()
        if not waiting.answer.done():
            waiting.answer.set_result(outcome)
        self._leave_batches(waiting)

    def _leave_batches(self, waiting: Waiting) -> None:
        for batch in waiting.batches:
            batch.open -= 1
            if not batch.open:
                del self._batches[batch.number]
                self._land(batch)
                batch.requests.clear()  # or they hold each other, and their answers, for a long time
        waiting.batches.clear()

    def _land(self, batch: Batch) -> None:
        """Make room for the next message."""
        if not batch.landed:
            batch.landed = True
            self._in_flight -= 1
            self._wake.set()
        if batch.timer is not None:
            batch.timer.cancel()
            batch.timer = None
