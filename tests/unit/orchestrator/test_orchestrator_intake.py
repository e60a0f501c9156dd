"""Payment intake: what is credited, what is refused, and what a refusal leaves behind."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from tests.unit.orchestrator.wire import Payer, expected_value, headers
from tests.unit.orchestrator.world import EV, PRICE, Stage, sdk_message
from tilt.orchestrator.addresses import parse_address
from tilt.orchestrator.chain import Funds
from tilt.orchestrator.refusals import RefusedError
from tilt.orchestrator.tickets import CERTAIN, Wei

pytestmark = pytest.mark.anyio

# The SDK's generated protobuf has no types.
type Message = Any
type Change = Callable[[Message], object]

OTHER_PAYER = Payer("0x" + "11" * 32)


async def pay(stage: Stage, info: Message, payment: Message, **segment: Any) -> None:
    """Pay for the reserved session of this quote; the segment may be signed by somebody else."""
    session_id = info.auth_token.session_id
    signer = segment.get("signed_by", stage.payer)
    both = headers(payment, signer.segment(info, session_id))
    await stage.orchestrator.pay(session_id, *both.values())


async def refusal(stage: Stage, info: Message, payment: Message, **segment: Any) -> tuple[int, str]:
    with pytest.raises(RefusedError) as refused:
        await pay(stage, info, payment, **segment)
    return refused.value.status, refused.value.text


def changed(message: Message, change: Change) -> Message:
    copy = type(message)()
    copy.CopyFrom(message)
    change(copy)
    return copy


async def test_tickets_are_credited_at_their_expected_value(stage: Stage) -> None:
    info = await stage.reserve(1, 2)

    await pay(stage, info, stage.payer.payment(info, [3]))

    assert stage.balance(info.auth_token.session_id) == 3 * expected_value(info.ticket_params)
    journal = stage.orchestrator.journal
    assert [record.ticket.nonce for record in journal.accepted] == [1, 2, 3]
    assert (journal.tickets_accepted, journal.tickets_rejected) == (3, 0)


async def test_an_accepted_payment_is_answered_with_its_token_and_fresh_params(stage: Stage) -> None:
    info = await stage.reserve(1)
    session_id = info.auth_token.session_id

    result = await stage.orchestrator.pay(session_id, *stage.payer.headers(info, [2]).values())

    assert result.info.auth_token.token == info.auth_token.token
    assert result.info.ticket_params.recipient_rand_hash != info.ticket_params.recipient_rand_hash


async def test_a_payment_stands_where_no_new_quote_is_possible(stage: Stage) -> None:
    info = await stage.reserve(1)
    stage.chain.sender = replace(stage.chain.sender, reserve=Wei(0))
    await stage.orchestrator.look_at_chain()

    result = await stage.orchestrator.pay(
        info.auth_token.session_id, *stage.payer.headers(info, [2]).values()
    )

    assert not result.info.HasField("ticket_params")
    assert stage.orchestrator.journal.tickets_accepted == 2


async def test_the_first_payment_fixes_the_price(stage: Stage) -> None:
    info = await stage.reserve(1)
    session_id = info.auth_token.session_id
    stage.orchestrator.quotes.terms = replace(stage.orchestrator.quotes.terms, price_per_unit=Wei(7))
    dearer = sdk_message(await stage.orchestrator.refresh(stage.sender, session_id))

    await stage.orchestrator.pay(session_id, *stage.payer.headers(dearer, [1]).values())

    account = stage.orchestrator.ledger.account(stage.sender, session_id)
    assert dearer.price_info.pricePerUnit == 7
    assert account.price == PRICE


async def test_a_payment_without_params_is_free_and_makes_its_session_free(stage: Stage) -> None:
    info = await stage.challenge()
    free = changed(stage.payer.payment(info, []), lambda payment: payment.ClearField("ticket_params"))
    segment = stage.payer.segment(info, info.auth_token.session_id)

    session_id = await stage.orchestrator.reserve(*headers(free, segment).values())

    assert stage.orchestrator.ledger.account(stage.sender, session_id).price == Fraction(0)


@pytest.mark.parametrize(
    "change",
    [
        lambda payment: payment.ClearField("expected_price"),
        lambda payment: payment.expected_price.ClearField("pixelsPerUnit"),
        lambda payment: payment.ClearField("expiration_params"),
        lambda payment: setattr(payment.expected_price, "pricePerUnit", -PRICE),
        lambda payment: setattr(payment.expected_price, "pixelsPerUnit", -1),
        lambda payment: setattr(payment.expiration_params, "creation_round", -1),
        lambda payment: setattr(payment.ticket_params, "face_value", b"\1" * 33),
    ],
)
async def test_a_payment_that_lacks_what_it_needs_is_refused_whole(stage: Stage, change: Change) -> None:
    info = await stage.reserve(1)

    status, _ = await refusal(stage, info, changed(stage.payer.payment(info, [2]), change))

    assert status == 400
    assert stage.orchestrator.journal.tickets_rejected == 0


async def test_an_orchestrator_that_is_not_active_takes_no_tickets(stage: Stage) -> None:
    info = await stage.reserve(1)
    stage.chain.current = replace(stage.chain.current, recipient_is_active=False)
    await stage.orchestrator.look_at_chain()

    status, text = await refusal(stage, info, stage.payer.payment(info, [2]))

    assert (status, text) == (400, "orchestrator is inactive in round 10")


class TestFatal:
    """What is wrong with the params is wrong with every ticket: none counts, no nonce is used."""

    async def assert_fatal(
        self, stage: Stage, info: Message, payment: Message, text: str, **how: Any
    ) -> None:
        before = stage.balance(info.auth_token.session_id)

        assert await refusal(stage, info, payment, **how) == (400, text)

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
        await pay(stage, info, stage.payer.payment(info, [2, 3]))


class TestNotFatal:
    """What is wrong with one ticket ends crediting; later tickets still use up their nonces."""

    async def assert_only_later_ones_suffer(
        self, stage: Stage, info: Message, payment: Message, text: str
    ) -> None:
        """Expect a batch of nonces 2, x, 4 where x is the bad one."""
        before = stage.balance(info.auth_token.session_id)

        assert await refusal(stage, info, payment) == (400, text)

        gained = stage.balance(info.auth_token.session_id) - before
        assert gained == expected_value(info.ticket_params)
        reasons = [record.reason for record in stage.orchestrator.journal.rejected]
        assert reasons == [text, f"not credited after: {text}"]
        again = await refusal(stage, info, stage.payer.payment(info, [4]))
        assert again == (400, "invalid ticket senderNonce: already seen nonce=4")

    async def test_a_wrong_signature(self, stage: Stage) -> None:
        info = await stage.reserve(1)
        payment = changed(
            stage.payer.payment(info, [2, 3, 4]),
            lambda payment: setattr(payment.ticket_sender_params[1], "sig", bytes(64) + b"\x1b"),
        )

        await self.assert_only_later_ones_suffer(stage, info, payment, "invalid ticket signature")
        await pay(stage, info, stage.payer.payment(info, [3]))

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
        await pay(stage, info, stage.payer.payment(info, [2]))
        before = stage.balance(info.auth_token.session_id)
        stage.orchestrator.view.last_head = replace(stage.chain.current, l1_block=expiration_block)

        answer = await refusal(stage, info, stage.payer.payment(info, [3, 4]))

        assert answer == (400, "TicketParams expired")
        assert stage.balance(info.auth_token.session_id) == before
        again = await refusal(stage, info, stage.payer.payment(info, [3]))
        assert again == (400, "invalid ticket senderNonce: already seen nonce=3")

    async def test_the_601st_nonce(self, stage: Stage) -> None:
        info = await stage.reserve(*range(1, 600))

        await pay(stage, info, stage.payer.payment(info, [600]))
        answer = await refusal(stage, info, stage.payer.payment(info, [601]))

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
    _, first = await refusal(stage, info, payment)
    see(healthy)
    _, second = await refusal(stage, info, payment)
    payment.ticket_params.recipient = info.ticket_params.recipient
    _, third = await refusal(stage, info, payment)
    payment.ticket_params.seed = info.ticket_params.seed
    _, fourth = await refusal(stage, info, payment)
    _, fifth = await refusal(stage, info, stage.payer.payment(info, [1]))
    _, sixth = await refusal(stage, info, stage.payer.payment(info, [2]))

    assert [first, second, third, fourth, fifth, sixth] == [
        "unable to validate sender: deposit and reserve is set to unlock soon",
        "invalid ticket recipient",
        "invalid recipientRand for ticket recipientRandHash",
        "invalid ticket signature",
        "invalid ticket senderNonce: already seen nonce=1",
        "TicketParams expired",
    ]


async def test_winners_are_kept_once_even_where_they_are_not_credited(stage: Stage) -> None:
    stage.win_almost_always()
    info = await stage.reserve(*range(1, 20))
    winners = len(list(stage.orchestrator.winners))

    await refusal(stage, info, stage.payer.payment(info, range(1, 40)))

    everything = list(stage.orchestrator.winners)
    nonces = [winner.ticket.nonce for winner in everything]
    assert 0 < winners < len(everything)
    assert len(set(nonces)) == len(nonces)
    assert stage.orchestrator.journal.tickets_accepted == 19
    assert stage.orchestrator.winners.pending(stage.sender) == (EV + 1) * len(everything)
    assert all(parse_address(stage.payer.address) == winner.ticket.sender for winner in everything)
