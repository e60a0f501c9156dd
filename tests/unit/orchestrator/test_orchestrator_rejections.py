"""Rejected tickets: what is fatal to a batch, what is not, and in which order it is looked at."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.orchestrator.wire import Payer, expected_value
from tests.unit.orchestrator.world import PRICE, Stage, changed
from tilt.orchestrator.chain import Funds
from tilt.orchestrator.tickets import CERTAIN

pytestmark = pytest.mark.anyio

# The SDK's generated protobuf has no types.
type Message = Any
type Change = Callable[[Message], object]

OTHER_PAYER = Payer("0x" + "11" * 32)


class TestFatal:
    """What is wrong with the params is wrong with every ticket: none counts, no nonce is used."""

    async def assert_fatal(
        self, stage: Stage, info: Message, payment: Message, text: str, **how: Any
    ) -> None:
        before = stage.balance(info.auth_token.session_id)

        assert await stage.refusal(info, payment, **how) == (400, text)

        journal = stage.orchestrator.journal
        assert stage.balance(info.auth_token.session_id) == before
        assert [record.reason for record in journal.rejected] == [text] * 2

    @pytest.mark.parametrize("withdraw_round", [1, 10, 11])
    async def test_a_sender_about_to_withdraw(self, stage: Stage, withdraw_round: int) -> None:
        info = await stage.reserve(1)
        stage.chain.sender = replace(stage.chain.sender, withdraw_round=withdraw_round)
        await stage.orchestrator.look_at_chain()

        text = "unable to validate sender: deposit and reserve is set to unlock soon"
        await self.assert_fatal(stage, info, stage.payer.payment(info, [2, 3]), text)
        await self.assert_nonces_are_unused(stage, info)

    async def test_another_recipient(self, stage: Stage) -> None:
        info = await stage.reserve(1)
        payment = changed(
            stage.payer.payment(info, [2, 3]),
            lambda payment: setattr(payment.ticket_params, "recipient", b"\1" * 20),
        )

        await self.assert_fatal(stage, info, payment, "invalid ticket recipient")

    @pytest.mark.parametrize(
        "change",
        [
            lambda payment: setattr(payment.ticket_params, "seed", b"\1" * 32),
            lambda payment: setattr(payment.ticket_params, "face_value", b"\1\1"),
            lambda payment: setattr(payment.ticket_params, "win_prob", CERTAIN.to_bytes(32)),
            lambda payment: setattr(payment.ticket_params, "expiration_block", b"\xff\xff"),
            lambda payment: setattr(payment.ticket_params, "recipient_rand_hash", b"\1" * 32),
            lambda payment: setattr(payment.expected_price, "pricePerUnit", PRICE + 1),
            lambda payment: setattr(payment.expected_price, "pixelsPerUnit", 2),
            lambda payment: setattr(payment.expiration_params, "creation_round", 9),
            lambda payment: setattr(payment.expiration_params, "creation_round_block_hash", b"\1" * 32),
        ],
    )
    async def test_any_change_to_what_was_quoted(self, stage: Stage, change: Change) -> None:
        info = await stage.reserve(1)
        payment = changed(stage.payer.payment(info, [2, 3]), change)

        text = "invalid recipientRand for ticket recipientRandHash"
        await self.assert_fatal(stage, info, payment, text)
        await self.assert_nonces_are_unused(stage, info)

    async def test_params_quoted_to_another_sender(self, stage: Stage) -> None:
        info = await stage.reserve(1)
        payment = OTHER_PAYER.payment(info, [2, 3])

        text = "invalid recipientRand for ticket recipientRandHash"
        await self.assert_fatal(stage, info, payment, text, signed_by=OTHER_PAYER)

    async def test_a_new_secret(self, stage: Stage) -> None:
        info = await stage.reserve(1)
        stage.orchestrator.renew_ticket_secret()

        text = "invalid recipientRand for ticket recipientRandHash"
        await self.assert_fatal(stage, info, stage.payer.payment(info, [2, 3]), text)

    async def assert_nonces_are_unused(self, stage: Stage, info: Message) -> None:
        stage.chain.sender = replace(stage.chain.sender, withdraw_round=0)
        await stage.orchestrator.look_at_chain()
        await stage.pay(info, stage.payer.payment(info, [2, 3]))


class TestNotFatal:
    """What is wrong with one ticket ends crediting; later tickets still use up their nonces."""

    async def assert_only_later_ones_suffer(
        self, stage: Stage, info: Message, payment: Message, text: str
    ) -> None:
        """Expect a batch of nonces 2, x, 4 where x is the bad one."""
        before = stage.balance(info.auth_token.session_id)

        assert await stage.refusal(info, payment) == (400, text)

        gained = stage.balance(info.auth_token.session_id) - before
        assert gained == expected_value(info.ticket_params)
        reasons = [record.reason for record in stage.orchestrator.journal.rejected]
        assert reasons == [text, f"not credited after: {text}"]
        again = await stage.refusal(info, stage.payer.payment(info, [4]))
        assert again == (400, "invalid ticket senderNonce: already seen nonce=4")

    async def test_a_wrong_signature(self, stage: Stage) -> None:
        info = await stage.reserve(1)
        payment = changed(
            stage.payer.payment(info, [2, 3, 4]),
            lambda payment: setattr(payment.ticket_sender_params[1], "sig", bytes(64) + b"\x1b"),
        )

        await self.assert_only_later_ones_suffer(stage, info, payment, "invalid ticket signature")
        await stage.pay(info, stage.payer.payment(info, [3]))

    async def test_a_signature_of_somebody_else(self, stage: Stage) -> None:
        info = await stage.reserve(1)
        stolen = OTHER_PAYER.payment(info, [3]).ticket_sender_params[0].sig
        payment = changed(
            stage.payer.payment(info, [2, 3, 4]),
            lambda payment: setattr(payment.ticket_sender_params[1], "sig", stolen),
        )

        await self.assert_only_later_ones_suffer(stage, info, payment, "invalid ticket signature")

    async def test_a_nonce_seen_before(self, stage: Stage) -> None:
        info = await stage.reserve(1)

        text = "invalid ticket senderNonce: already seen nonce=1"
        await self.assert_only_later_ones_suffer(stage, info, stage.payer.payment(info, [2, 1, 4]), text)

    async def test_a_nonce_twice_in_one_batch(self, stage: Stage) -> None:
        info = await stage.reserve(1)

        text = "invalid ticket senderNonce: already seen nonce=2"
        await self.assert_only_later_ones_suffer(stage, info, stage.payer.payment(info, [2, 2, 4]), text)

    async def test_params_that_expire_with_the_block(self, stage: Stage) -> None:
        info = await stage.reserve(1)
        expiration_block = int.from_bytes(info.ticket_params.expiration_block)
        await self.see_block(stage, expiration_block - 1)
        await stage.pay(info, stage.payer.payment(info, [2]))
        before = stage.balance(info.auth_token.session_id)
        stage.orchestrator.view.last_head = replace(stage.chain.current, l1_block=expiration_block)

        answer = await stage.refusal(info, stage.payer.payment(info, [3, 4]))

        assert answer == (400, "TicketParams expired")
        assert stage.balance(info.auth_token.session_id) == before
        again = await stage.refusal(info, stage.payer.payment(info, [3]))
        assert again == (400, "invalid ticket senderNonce: already seen nonce=3")

    async def test_the_601st_nonce(self, stage: Stage) -> None:
        info = await stage.reserve(*range(1, 600))

        await stage.pay(info, stage.payer.payment(info, [600]))
        answer = await stage.refusal(info, stage.payer.payment(info, [601]))

        assert answer == (400, "invalid ticket senderNonce: too many values nonce=601")

    async def see_block(self, stage: Stage, l1_block: int) -> None:
        stage.chain.current = replace(stage.chain.current, l1_block=l1_block)
        await stage.orchestrator.look_at_chain()


async def test_the_order_of_checks_is_go_livepeers(stage: Stage) -> None:
    """Break everything at once, then repair it step by step."""
    info = await stage.reserve(1)
    healthy = stage.chain.sender
    payment = stage.payer.payment(info, [1])
    payment.ticket_params.recipient = b"\1" * 20
    payment.ticket_params.seed = b"\1"
    payment.ticket_sender_params[0].sig = b""
    expired = replace(stage.chain.current, l1_block=2000)

    def see(funds: Funds) -> None:
        stage.orchestrator.view.funds_by_sender[stage.sender] = funds
        stage.orchestrator.view.last_head = expired

    see(replace(healthy, withdraw_round=5))
    _, first = await stage.refusal(info, payment)
    see(healthy)
    _, second = await stage.refusal(info, payment)
    payment.ticket_params.recipient = info.ticket_params.recipient
    _, third = await stage.refusal(info, payment)
    payment.ticket_params.seed = info.ticket_params.seed
    _, fourth = await stage.refusal(info, payment)
    _, fifth = await stage.refusal(info, stage.payer.payment(info, [1]))
    _, sixth = await stage.refusal(info, stage.payer.payment(info, [2]))

    assert [first, second, third, fourth, fifth, sixth] == [
        "unable to validate sender: deposit and reserve is set to unlock soon",
        "invalid ticket recipient",
        "invalid recipientRand for ticket recipientRandHash",
        "invalid ticket signature",
        "invalid ticket senderNonce: already seen nonce=1",
        "TicketParams expired",
    ]
