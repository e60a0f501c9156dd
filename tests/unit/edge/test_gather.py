"""Payments that wait travel together; where nobody answers, others are asked."""

import asyncio

import pytest

from contracts.message import Fault
from contracts.signer import (
    GeneratePayments,
    PaymentAnswers,
    PaymentRefusedAnswer,
    PaymentSignedAnswer,
)
from services.edge import line
from services.edge.gather import partition_of
from services.edge.line import Unanswered
from tests.beside import until
from tests.unit.edge.gathering import FakeBus, ask, names, running, settle, signed, waiting_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def bus() -> FakeBus:
    return FakeBus()


async def test_what_comes_together_goes_together(bus: FakeBus) -> None:
    async with running(bus) as gatherer:
        asked = [ask(gatherer, name) for name in "abc"]
        await settle()
        await bus.answer(0, signed(2, 0, 1))

        assert names(bus) == [["a", "b", "c"]]
        assert bus.sent[0][0] == "cmd.signer.generate_payments.v1.0"
        bodies = [answer.body for answer in await asyncio.gather(*asked) if answer.kind == "signed"]  # type: ignore[union-attr]
        assert bodies == ["b0", "b1", "b2"]


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
        gatherer._lines[partition_of("acme", 2)]._give_up(waiting_of(gatherer, "a"))  # noqa: SLF001
        await until(lambda: len(bus.sent) == 2)

        assert names(bus) == [["a", "b"], ["b"]]
        await bus.answer(1, signed(0))
        assert await asyncio.gather(*asked) == [
            Unanswered("timeout"),
            PaymentSignedAnswer(index=0, body="b0"),
        ]


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
