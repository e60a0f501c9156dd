import asyncio
import time
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
from services.edge import line
from services.edge.gather import Gatherer, partition_of
from services.edge.line import BODY_BYTES_MAX, IN_FLIGHT_MAX, Outcome, Unanswered

pytestmark = pytest.mark.anyio


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


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def _waiting_of(gatherer: Gatherer, name: str) -> line.Waiting:
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
    async with running(bus, timeout=0.5) as gatherer:
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


async def test_a_connection_that_is_gone_for_a_moment_is_waited_for(bus: FakeBus) -> None:
    async with running(bus) as gatherer:
        bus.is_connected = False
        asked = ask(gatherer, "a")
        await settle()
        assert bus.sent == []

        bus.is_connected = True
        await until(lambda: bus.sent != [])
        await bus.answer(0, signed(0))
        assert (await asked) == PaymentSignedAnswer(index=0, body="b0")


async def test_a_connection_that_stays_away_refuses_at_once(
    bus: FakeBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line, "AWAY_SECONDS", 0.05)
    async with running(bus, timeout=0.1) as gatherer:
        bus.is_connected = False
        assert await ask(gatherer, "waits") == Unanswered("timeout")

        assert await ask(gatherer, "refused") == Unanswered("no_signer")
        bus.is_connected = True
        asked = ask(gatherer, "sent")
        await until(lambda: bus.sent != [])
        assert names(bus) == [["sent"]]
        asked.cancel()


async def test_what_cannot_be_sent_is_answered_at_once(bus: FakeBus) -> None:
    async with running(bus) as gatherer:
        bus.full = True
        assert await ask(gatherer, "b") == Unanswered("no_signer")

        bus.full = False
        asked = ask(gatherer, "c")
        await settle()
        await bus.answer(0, signed(0))
        assert (await asked) == PaymentSignedAnswer(index=0, body="b0")


async def test_where_nobody_serves_a_partition_the_next_ones_are_asked_once_each(bus: FakeBus) -> None:
    async with running(bus, partitions=3) as gatherer:
        asked = ask(gatherer, "a", account_id="acme")  # of partition 2
        await settle()
        for place in range(3):
            await bus.answer(place, PaymentAnswers(answers=[]), headers={"Status": "503"})
            await settle()

        assert [subject[-2:] for subject, _, _ in bus.sent] == [".2", ".0", ".1"]
        assert names(bus) == [["a"]] * 3
        assert await asked == Unanswered("no_signer")


async def test_a_silent_signer_is_passed_over_and_what_it_says_later_still_counts(
    bus: FakeBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line, "SILENCE_SECONDS", 0.02)
    async with running(bus, partitions=2) as gatherer:
        asked = [ask(gatherer, name, account_id="acme") for name in "ab"]  # of partition 0
        await until(lambda: len(bus.sent) == 2)
        own, other = (subject[-1] for subject, _, _ in bus.sent)
        assert own != other
        assert names(bus) == [["a", "b"], ["a", "b"]]

        await bus.answer(0, signed(1))
        await bus.answer(1, signed(0, 1))
        assert await asyncio.gather(*asked) == [
            PaymentSignedAnswer(index=0, body="b0"),
            PaymentSignedAnswer(index=1, body="b1"),
        ]

        spared = ask(gatherer, "c", account_id="acme")  # for a while the silent one is not asked first
        await until(lambda: len(bus.sent) == 3)
        assert bus.sent[2][0][-1] == other
        await bus.answer(2, signed(0))
        assert (await spared) == PaymentSignedAnswer(index=0, body="b0")
        assert all(line._batches == {} and line._in_flight == 0 for line in gatherer._lines)  # noqa: SLF001


async def test_what_fails_in_passing_is_asked_again_and_others_are_answered(
    bus: FakeBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line, "AGAIN_SECONDS", 0.02)
    away = PaymentRefusedAnswer(index=0, status=503, reason="store_unavailable", message="away")
    refused = PaymentRefusedAnswer(index=1, status=402, reason="spend_limit_reached", message="no")
    async with running(bus) as gatherer:
        asked = [ask(gatherer, name) for name in "ab"]
        await settle()
        await bus.answer(0, PaymentAnswers(answers=[away, refused]))
        await until(lambda: len(bus.sent) == 2)
        assert await asked[1] == refused
        assert names(bus) == [["a", "b"], ["a"]]

        await bus.answer(1, signed(0))
        assert (await asked[0]) == PaymentSignedAnswer(index=0, body="b0")
        assert all(line._batches == {} and line._in_flight == 0 for line in gatherer._lines)  # noqa: SLF001


async def test_what_goes_on_failing_is_told_before_the_deadline(
    bus: FakeBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line, "AGAIN_SECONDS", 0.05)
    away = PaymentRefusedAnswer(index=0, status=503, reason="store_unavailable", message="away")
    async with running(bus, timeout=0.4) as gatherer:
        asked = ask(gatherer, "a")
        answered = 0
        while not asked.done():
            await settle()
            if len(bus.sent) > answered:
                await bus.answer(answered, PaymentAnswers(answers=[away]))
                answered += 1
            await asyncio.sleep(0.005)

        assert await asked == away
        assert answered > 1


async def test_only_what_is_open_is_sent_again(bus: FakeBus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line, "SILENCE_SECONDS", 0.05)
    async with running(bus, partitions=2, timeout=5) as gatherer:
        asked = [ask(gatherer, name, account_id="acme") for name in "ab"]
        await settle()
        gatherer._lines[partition_of("acme", 2)]._give_up(_waiting_of(gatherer, "a"))  # noqa: SLF001
        await until(lambda: len(bus.sent) == 2)

        assert names(bus) == [["a", "b"], ["b"]]
        await bus.answer(1, signed(0))
        assert await asyncio.gather(*asked) == [
            Unanswered("timeout"),
            PaymentSignedAnswer(index=0, body="b0"),
        ]


async def test_each_message_says_when_nobody_waits_for_it_any_more(bus: FakeBus) -> None:
    async with running(bus, timeout=2) as gatherer:
        before = time.time()
        asked = ask(gatherer, "a")
        await settle()

        [expires_at_ms] = bus.expiries
        assert 2 < expires_at_ms / 1000 - before < 60
        asked.cancel()


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
        assert set(await asyncio.gather(*asked)) <= {Unanswered("timeout"), Unanswered("queue_full")}
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


async def test_who_would_wait_too_long_is_refused_at_once(
    bus: FakeBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line, "FULL_SHARE", 0.0)
    async with running(bus) as gatherer:
        under_way = [await _asked(gatherer, f"under way {number}") for number in range(IN_FLIGHT_MAX)]
        waits = await _asked(gatherer, "waits")

        assert await ask(gatherer, "comes later") == Unanswered("queue_full")

        await bus.answer(0, signed(0))
        await settle()
        assert names(bus)[-1] == ["waits"]
        for task in (*under_way, waits):
            task.cancel()


async def test_who_has_waited_too_long_is_not_sent(bus: FakeBus, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(bus) as gatherer:
        under_way = [await _asked(gatherer, f"under way {number}") for number in range(IN_FLIGHT_MAX)]
        waits = await _asked(gatherer, "waits")
        monkeypatch.setattr(line, "STALE_SHARE", 0.0)

        await bus.answer(0, signed(0))

        assert await waits == Unanswered("queue_full")
        assert len(bus.sent) == IN_FLIGHT_MAX
        for task in under_way:
            task.cancel()


async def _asked(gatherer: Gatherer, name: str) -> asyncio.Task[Outcome]:
    """Ask, and go on once it is in the queue or on its way."""
    asked = ask(gatherer, name)
    await settle()
    return asked
