import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import OutboundBufferLimitError

from contracts.message import Fault, Message
from contracts.signer import (
    GeneratePayment,
    GeneratePayments,
    PaymentAnswers,
    PaymentRefusedAnswer,
    PaymentSignedAnswer,
)
from services.edge.gather import BODY_BYTES_MAX, IN_FLIGHT_MAX, Gatherer, Outcome, Unanswered, partition_of

pytestmark = pytest.mark.anyio


class FakeBus:
    """Keeps what was sent; the test answers when it wants to."""

    def __init__(self) -> None:
        self.is_connected = True
        self.full = False
        self.sent: list[tuple[str, list[GeneratePayment], str]] = []
        self._callback: Callable[[Msg], Awaitable[None]] | None = None

    async def publish(self, subject: str, payload: bytes = b"", reply: str = "") -> None:
        if self.full:
            raise OutboundBufferLimitError
        self.sent.append((subject, GeneratePayments.model_validate_json(payload).requests, reply))

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


def ask(gatherer: Gatherer, name: str, *, account_id: str = "acme", size: int = 1) -> asyncio.Task[Outcome]:
    payment = GeneratePayment(
        request_id=name, account_id=account_id, key_id="k", user_id=None, stream_id=None, body="{}"
    )
    return asyncio.create_task(gatherer.generate(payment, size))


def signed(*indexes: int) -> PaymentAnswers:
    return PaymentAnswers(answers=[PaymentSignedAnswer(index=index, body=f"b{index}") for index in indexes])


def names(bus: FakeBus) -> list[list[str]]:
    return [[request.request_id for request in requests] for _, requests, _ in bus.sent]


async def test_what_comes_together_goes_together(bus: FakeBus) -> None:
    async with running(bus) as gatherer:
        asked = [ask(gatherer, name) for name in "abc"]
        await settle()
        await bus.answer(0, signed(2, 0, 1))

        assert names(bus) == [["a", "b", "c"]]
        assert bus.sent[0][0] == "cmd.signer.generate_payments.v1.0"
        bodies = [answer.body for answer in await asyncio.gather(*asked) if answer.kind == "signed"]  # type: ignore[union-attr]
        assert bodies == ["b0", "b1", "b2"]


async def test_at_most_32_requests_and_two_messages_are_under_way(bus: FakeBus) -> None:
    async with running(bus) as gatherer:
        asked = []
        for number in range(IN_FLIGHT_MAX):
            asked.append(ask(gatherer, f"first-{number}"))
            await settle()
        asked += [ask(gatherer, f"later-{number}") for number in range(40)]
        await settle()
        assert [len(requests) for _, requests, _ in bus.sent] == [1] * IN_FLIGHT_MAX

        await bus.answer(0, signed(0))
        await settle()
        assert [len(requests) for _, requests, _ in bus.sent][IN_FLIGHT_MAX:] == [32]
        await bus.answer(1, signed(0))
        await settle()
        assert [len(requests) for _, requests, _ in bus.sent][IN_FLIGHT_MAX:] == [32, 8]
        for task in asked:
            task.cancel()


async def test_the_first_answers_make_room_though_slow_ones_are_still_out(bus: FakeBus) -> None:
    async with running(bus) as gatherer:
        asked = [ask(gatherer, name) for name in "ab"]
        for number in range(IN_FLIGHT_MAX):
            await settle()
            asked.append(ask(gatherer, f"next-{number}"))
        await settle()
        assert len(bus.sent) == IN_FLIGHT_MAX

        await bus.answer(0, signed(1))
        await settle()
        assert len(bus.sent) == IN_FLIGHT_MAX + 1
        assert not asked[0].done()

        refusal = PaymentRefusedAnswer(index=0, status=429, reason="held", message="wait")
        await bus.answer(0, PaymentAnswers(answers=[refusal]))
        assert await asked[0] == refusal
        for task in asked:
            task.cancel()


async def test_a_message_holds_a_bounded_number_of_bytes(bus: FakeBus) -> None:
    async with running(bus) as gatherer:
        asked = [ask(gatherer, name, size=BODY_BYTES_MAX // 2) for name in "abc"]
        await settle()

        assert names(bus) == [["a", "b"], ["c"]]
        for task in asked:
            task.cancel()


async def test_each_request_gives_up_at_its_own_deadline(bus: FakeBus) -> None:
    async with running(bus, timeout=0.05) as gatherer:
        for _ in range(6):  # more than may be in flight: each makes room when it gives up
            assert await ask(gatherer, "a") == Unanswered("timeout")

        await bus.answer(0, signed(0))  # too late: dropped
        assert len(bus.sent) == 6


async def test_those_that_gave_up_waiting_are_not_sent(bus: FakeBus) -> None:
    async with running(bus, timeout=0.05) as gatherer:
        stuck = []
        for number in range(IN_FLIGHT_MAX):
            stuck.append(ask(gatherer, f"stuck-{number}"))
            await settle()
        waiting = ask(gatherer, "waiting")
        assert await waiting == Unanswered("timeout")
        await asyncio.gather(*stuck)
        fresh = ask(gatherer, "fresh")
        await settle()

        assert names(bus)[-1] == ["fresh"]
        await bus.answer(len(bus.sent) - 1, signed(0))
        assert (await fresh) == PaymentSignedAnswer(index=0, body="b0")


async def test_without_a_signer_all_are_answered_at_once(bus: FakeBus) -> None:
    async with running(bus) as gatherer:
        asked = [ask(gatherer, name) for name in "ab"]
        await settle()
        await bus.answer(0, PaymentAnswers(answers=[]), headers={"Status": "503"})

        assert await asyncio.gather(*asked) == [Unanswered("no_signer")] * 2


async def test_without_a_connection_nothing_is_sent(bus: FakeBus) -> None:
    async with running(bus) as gatherer:
        bus.is_connected = False
        assert await ask(gatherer, "a") == Unanswered("no_signer")

        bus.is_connected, bus.full = True, True
        assert await ask(gatherer, "b") == Unanswered("no_signer")

        bus.full = False
        asked = ask(gatherer, "c")
        await settle()
        await bus.answer(0, signed(0))
        assert (await asked) == PaymentSignedAnswer(index=0, body="b0")


async def test_a_fault_answers_the_whole_message(bus: FakeBus) -> None:
    async with running(bus) as gatherer:
        asked = ask(gatherer, "a")
        await settle()
        await bus.answer(0, Fault(message="OperationalError"))

        assert await asked == Unanswered("signer_failed")


async def test_strange_answers_are_dropped(bus: FakeBus) -> None:
    async with running(bus, timeout=0.2) as gatherer:
        asked = ask(gatherer, "a")
        await settle()
        await bus.answer(0, signed(7, -1))
        await bus.answer(0, GeneratePayments(requests=[]))
        assert not asked.done()
        await bus.answer(0, signed(0))
        await bus.answer(0, signed(0))

        assert (await asked) == PaymentSignedAnswer(index=0, body="b0")


async def test_the_queue_is_bounded(bus: FakeBus) -> None:
    async with running(bus, timeout=0.2) as gatherer:
        asked = []
        for number in range(IN_FLIGHT_MAX):
            asked.append(ask(gatherer, f"stuck-{number}"))
            await settle()
        asked += [ask(gatherer, f"waiting-{number}") for number in range(100)]
        await settle()

        assert await ask(gatherer, "one too many") == Unanswered("queue_full")
        assert set(await asyncio.gather(*asked)) == {Unanswered("timeout")}
        fresh = ask(gatherer, "fresh")  # and when they gave up there is room again
        await settle()
        assert names(bus)[-1] == ["fresh"]
        fresh.cancel()


async def test_each_account_has_its_partition(bus: FakeBus) -> None:
    async with running(bus, partitions=3) as gatherer:
        asked = [ask(gatherer, name, account_id=name) for name in ("acme", "bolt", "cern", "dune")]
        await settle()

        for subject, requests, _ in bus.sent:
            for request in requests:
                assert subject.endswith(f".{partition_of(request.account_id, 3)}")
        assert partition_of("acme", 3) == 2  # for ever: signers keep their sessions warm by it
        for number in range(len(bus.sent)):
            await bus.answer(number, signed(*range(4)))
        await asyncio.gather(*asked)


async def test_a_client_that_left_does_not_hold_a_place(bus: FakeBus) -> None:
    async with running(bus) as gatherer:
        asked = [ask(gatherer, name) for name in "ab"]
        await settle()
        asked[0].cancel()
        await bus.answer(0, signed(0, 1))

        assert (await asked[1]) == PaymentSignedAnswer(index=1, body="b1")
        assert gatherer._lines[0]._batches == {}  # noqa: SLF001 (nothing is kept)
