"""What the queue of payments to the signers holds at most, and for how long."""

import asyncio
import time

import pytest

from contracts.signer import (
    PaymentAnswers,
    PaymentRefusedAnswer,
    PaymentSignedAnswer,
)
from services.edge import line
from services.edge.line import BODY_BYTES_MAX, IN_FLIGHT_MAX, Unanswered
from tests.unit.edge.gathering import FakeBus, ask, asked_and_waiting, names, running, settle, signed

pytestmark = pytest.mark.anyio


@pytest.fixture
def bus() -> FakeBus:
    return FakeBus()


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


async def test_each_message_says_when_nobody_waits_for_it_any_more(bus: FakeBus) -> None:
    async with running(bus, timeout=2) as gatherer:
        before = time.time()
        asked = ask(gatherer, "a")
        await settle()

        [expires_at_ms] = bus.expiries
        assert 2 < expires_at_ms / 1000 - before < 60
        asked.cancel()


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
        under_way = [
            await asked_and_waiting(gatherer, f"under way {number}") for number in range(IN_FLIGHT_MAX)
        ]
        waits = await asked_and_waiting(gatherer, "waits")

        assert await ask(gatherer, "comes later") == Unanswered("queue_full")

        await bus.answer(0, signed(0))
        await settle()
        assert names(bus)[-1] == ["waits"]
        for task in (*under_way, waits):
            task.cancel()


async def test_who_has_waited_too_long_is_not_sent(bus: FakeBus, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(bus) as gatherer:
        under_way = [
            await asked_and_waiting(gatherer, f"under way {number}") for number in range(IN_FLIGHT_MAX)
        ]
        waits = await asked_and_waiting(gatherer, "waits")
        monkeypatch.setattr(line, "STALE_SHARE", 0.0)

        await bus.answer(0, signed(0))

        assert await waits == Unanswered("queue_full")
        assert len(bus.sent) == IN_FLIGHT_MAX
        for task in under_way:
            task.cancel()
