"""The bus in one process: requests and entries move when a seeded scheduler says so, or get lost.

Inboxes, relays and handlers are the real ones; each has a `Client` of this bus where it would have
one of NATS.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from nats.errors import TimeoutError as NatsTimeoutError

from contracts.message import read_log_subject
from contracts.streams import PUBLISHERS
from tests.faults.crashes.points import Crash, Points

FIRST_SECONDS = 0.5  # an inbox waits longer for a first message than for what comes with it
LOST = 0.05  # of the questions to a log

LOGS = frozenset(read_log_subject(publisher) for publisher in PUBLISHERS)

type Answer = Callable[[str, bytes], Awaitable[bytes]]


@dataclass
class Request:
    """A request on its way, or one whose asker has given up or died."""

    subject: str
    data: bytes
    reply: asyncio.Future["Reply"]


@dataclass(frozen=True)
class Reply:
    data: bytes


@dataclass(frozen=True)
class Published:
    data: bytes
    headers: dict[str, str] | None


@dataclass
class Message:
    """An entry as a consumer gets it."""

    data: bytes
    headers: dict[str, str] | None
    points: Points

    async def ack(self) -> None:
        self.points.reach("before the ack")


@dataclass
class Bus:
    random: Random
    answer: Answer  # the reply of whoever serves the subject
    waiting: list[Request] = field(default_factory=list)
    stale: list[Request] = field(default_factory=list)  # nobody waits for their replies any more
    streams: dict[str, list[Published]] = field(default_factory=lambda: defaultdict(list))
    losing: bool = True

    def send(self, subject: str, data: bytes) -> Request:
        request = Request(subject, data, asyncio.get_running_loop().create_future())
        self.waiting.append(request)
        return request

    async def read_log(self, subject: str, data: bytes) -> Reply:
        """Logs are read at once, so that a step of an inbox needs no other."""
        if self.losing and self.random.random() < LOST:
            raise NatsTimeoutError
        try:
            return Reply(await self.answer(subject, data))
        except Crash as crash:
            raise NatsTimeoutError from crash  # of who was asked, not of who asks

    async def deliver(self, request: Request, *, loses_reply: bool) -> None:
        """Bring a request to who answers it, and the reply back."""
        self.waiting.remove(request)
        try:
            data = await self.answer(request.subject, request.data)
        except Crash:
            self.lose(request)
            raise
        if loses_reply:
            self.lose(request)
        elif not request.reply.done():
            request.reply.set_result(Reply(data))

    def lose(self, request: Request) -> None:
        """The asker hears nothing; the request itself may still be on its way."""
        if request in self.waiting:
            self.waiting.remove(request)
        if not request.reply.done():
            request.reply.set_exception(NatsTimeoutError())
        self.stale.append(request)

    def forget(self, client: "Client") -> None:
        """Its process died: nobody waits for its replies."""
        for request in client.asked:
            if not request.reply.done():
                request.reply.cancel()
            if request in self.waiting:
                self.waiting.remove(request)
                self.stale.append(request)


class Client:
    """What inboxes, relays and handlers need of a connection."""

    def __init__(self, bus: Bus, points: Points) -> None:
        self._bus = bus
        self._points = points
        self.asked: list[Request] = []
        self.consumers: dict[str, Consumption] = {}

    async def request(self, subject: str, data: bytes, **_: Any) -> Reply:
        self._points.reach("before a request")
        if subject in LOGS:
            reply = await self._bus.read_log(subject, data)
        else:
            request = self._bus.send(subject, data)
            self.asked.append(request)
            reply = await request.reply
        self._points.reach("after a reply")
        return reply

    def jetstream(self) -> "Client":
        return self

    async def publish(
        self, subject: str, data: bytes, headers: dict[str, str] | None = None, **_: Any
    ) -> None:
        """On the publisher's stream."""
        self._points.reach("before a publish")
        self._bus.streams[subject.split(".")[1]].append(Published(data, headers))
        self._points.reach("after a publish")

    async def pull_subscribe_bind(self, *, durable: str, stream: str) -> "Consumption":
        self.consumers[durable] = Consumption(stream)
        return self.consumers[durable]


class Consumption:
    """A consumer that gets its messages from the scheduler, a step at a time."""

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self._ready: list[Message] = []
        self._handed: asyncio.Future[None] | None = None
        self.idle = asyncio.Event()

    async def fetch(self, batch: int, timeout: float) -> list[Message]:
        if timeout >= FIRST_SECONDS:
            self._ready = []
            self._handed = asyncio.get_running_loop().create_future()
            self.idle.set()
            await self._handed
        if not self._ready:
            raise TimeoutError
        taken, self._ready = self._ready[:batch], self._ready[batch:]
        return taken

    def hand(self, messages: Sequence[Message]) -> None:
        """Give messages to a consumer that is idle; none: it has waited in vain."""
        assert self._handed is not None
        self._ready = list(messages)
        self.idle.clear()
        self._handed.set_result(None)

    async def unsubscribe(self) -> None:
        """Nothing is kept."""
