"""A gatherer on a bus that keeps what was sent; the test answers when it wants to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import OutboundBufferLimitError

from contracts.message import Message
from contracts.signer import (
    GeneratePayment,
    GeneratePayments,
    PaymentAnswers,
    PaymentSignedAnswer,
)
from services.edge import line
from services.edge.gather import Gatherer
from services.edge.line import Outcome


class FakeBus:
    """Keeps what was sent; the test answers when it wants to."""

    def __init__(self) -> None:
        self.is_connected = True
        self.full = False
        self.sent: list[tuple[str, list[GeneratePayment], str]] = []
        self.expiries: list[int] = []
        self._callback: Callable[[Msg], Awaitable[None]] | None = None

    async def publish(self, subject: str, payload: bytes = b"", reply: str = "") -> None:
        if self.full:
            raise OutboundBufferLimitError
        command = GeneratePayments.model_validate_json(payload)
        self.sent.append((subject, command.requests, reply))
        self.expiries.append(command.expires_at_ms or 0)

    async def subscribe(
        self, subject: str, queue: str = "", cb: Callable[[Msg], Awaitable[None]] | None = None
    ) -> None:
        assert subject.startswith("_INBOX_edge.")
        assert not queue
        self._callback = cb

    async def answer(self, sent: int, reply: Message, headers: dict[str, str] | None = None) -> None:
        assert self._callback is not None
        data = reply.model_dump_json().encode()
        await self._callback(Msg(Client(), self.sent[sent][2], data=data, headers=headers))


@pytest.fixture
def bus() -> FakeBus:
    return FakeBus()


@asynccontextmanager
async def running(bus: FakeBus, *, partitions: int = 1, timeout: float = 5.0) -> AsyncIterator[Gatherer]:
    gatherer = Gatherer(bus, partitions=partitions, timeout_seconds=timeout, waiting_max=100)
    task = asyncio.create_task(gatherer.run())
    await settle()
    yield gatherer
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def waiting_of(gatherer: Gatherer, name: str) -> line.Waiting:
    found = [
        waiting
        for line in gatherer._lines  # noqa: SLF001
        for batch in line._batches.values()  # noqa: SLF001
        for waiting in batch.requests
        if waiting.request.request_id == name
    ]
    return found[0]


def ask(gatherer: Gatherer, name: str, *, account_id: str = "acme", size: int = 1) -> asyncio.Task[Outcome]:
    payment = GeneratePayment(
        request_id=name, account_id=account_id, key_id="k", user_id=None, stream_id=None, body="{}"
    )
    return asyncio.create_task(gatherer.generate(payment, size))


def signed(*indexes: int) -> PaymentAnswers:
    return PaymentAnswers(answers=[PaymentSignedAnswer(index=index, body=f"b{index}") for index in indexes])


def names(bus: FakeBus) -> list[list[str]]:
    return [[request.request_id for request in requests] for _, requests, _ in bus.sent]


async def asked_and_waiting(gatherer: Gatherer, name: str) -> asyncio.Task[Outcome]:
    """Ask, and go on once it is in the queue or on its way."""
    asked = ask(gatherer, name)
    await settle()
    return asked
