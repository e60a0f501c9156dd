"""What the deposit watcher says and listens to."""

from typing import ClassVar, Literal

from contracts.message import Event, Message, WeiText

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
    """Entry `payer.<address>` of the `chain` bucket, as the contract's getSenderInfo says."""

    kind: Literal["payer_funds"] = "payer_funds"
    payer: str
    deposit: WeiText
    reserve: WeiText
    withdraw_round: int
    observed_at_ms: int


class FundsObserved(Event):
    """A payer's deposit and reserve, said when they change and once a minute."""

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
    """A winner was redeemed. `paid` may be less than the face value."""

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
