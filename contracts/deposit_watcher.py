"""What the deposit watcher says and listens to."""

from datetime import datetime
from typing import ClassVar, Literal

from pydantic import Field

from contracts.message import Command, Event, Message, WeiText

CHAIN = "chain"  # the KV bucket with the chain's head and each payer's funds


class ChainHead(Message):
    """Entry `head` of the `chain` bucket: what the signer checks ticket params against."""

    kind: Literal["chain_head"] = "chain_head"
    chain_id: int
    l1_block: int
    round: int  # the last initialised one
    round_hash: str  # hex of 32 bytes
    previous_round_hash: str
    observed_at_ms: int


class PayerFunds(Message):
    """Entry `payer.<address>` of the `chain` bucket: what may be counted on.

    Deposit and reserve are the smaller of what getSenderInfo says at the newest block and at one that
    is final.
    """

    kind: Literal["payer_funds"] = "payer_funds"
    payer: str
    deposit: WeiText
    reserve: WeiText
    withdraw_round: int
    observed_at_ms: int


class FundsObserved(Event):
    """A payer's deposit and reserve as far as they may be counted on, when they change and once a minute."""

    subject: ClassVar[str] = "evt.deposit_watcher.funds_observed.v1"

    payer: str
    deposit: WeiText
    reserve: WeiText
    withdraw_round: int
    pool_size: int
    l1_block: int
    block_hash: str


class RoundChanged(Event):
    subject: ClassVar[str] = "evt.deposit_watcher.round_changed.v1"

    round: int
    round_hash: str
    ticket_validity_rounds: int


class TicketRedeemed(Event):
    """A winner was redeemed that is in the signer's log, as it was redeemed.

    `paid` may be less than the face value. Its account was charged when it was signed.
    """

    subject: ClassVar[str] = "evt.deposit_watcher.ticket_redeemed.v1"

    payer: str
    recipient: str
    recipient_rand_hash: str
    sender_nonce: int
    face_value: WeiText
    win_prob: str  # hex
    paid: WeiText
    tx_hash: str
    log_index: int
    block: int
    block_hash: str


class RecoveredRedemption(Event):
    """A winner was redeemed that we signed, as the chain proves, although our log did not say so.

    `reason` tells what speaks for it. `recovered`: its payment came back as TicketRecovered, and was
    charged by that. `fence`: the signer's store went back in time, and the ticket is of a round in
    which lost ones may be; nobody was charged. `late`: it was told as an orphan, and then found in the
    log. With `corrects_orphan` the OrphanRedemption of the same transaction and log index was wrong:
    take back what was booked for it, as the payout is one and the same.
    """

    subject: ClassVar[str] = "evt.deposit_watcher.recovered_redemption.v1"

    payer: str
    recipient: str
    recipient_rand_hash: str
    sender_nonce: int
    face_value: WeiText
    win_prob: str  # hex
    paid: WeiText
    tx_hash: str
    log_index: int
    block: int
    block_hash: str
    creation_round: int
    reason: Literal["recovered", "fence", "late"]
    corrects_orphan: bool = False


class OrphanRedemption(Event):
    """A winner was redeemed that our key signed, and that we know nothing of: the key is used elsewhere."""

    subject: ClassVar[str] = "evt.deposit_watcher.orphan_redemption.v1"

    payer: str
    recipient: str
    recipient_rand_hash: str
    sender_nonce: int
    face_value: WeiText
    win_prob: str  # hex
    paid: WeiText
    tx_hash: str
    log_index: int
    block: int
    block_hash: str
    creation_round: int


type RedemptionKind = Literal["pending", "signed", "recovered", "orphan"]


class ReadRedemptions(Command):
    """Redeemed tickets, the newest block first."""

    subject: ClassVar[str] = "cmd.deposit_watcher.read_redemptions.v1"

    redemption_kind: RedemptionKind | None = None  # None: all of them
    limit: int = Field(default=100, ge=1, le=500)
    after: str = ""  # the id of the last one seen


class RedemptionRow(Message):
    """One redemption: `pending` until the signer's log was surely read past it, an alarm if an `orphan`."""

    redemption_id: str
    redemption_kind: RedemptionKind
    reason: str  # of a recovered one
    payer: str
    recipient: str
    recipient_rand_hash: str
    sender_nonce: WeiText  # up to 256 bits, as the broker takes any
    face_value: WeiText
    win_prob: str  # hex
    paid: WeiText
    creation_round: int
    tx_hash: str
    log_index: int
    block: int
    seen_at: datetime


class RedemptionPage(Message):
    kind: Literal["redemption_page"] = "redemption_page"
    redemptions: list[RedemptionRow]
