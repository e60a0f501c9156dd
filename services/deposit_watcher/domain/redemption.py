"""Redeemed tickets: what the chain tells of them, and what they are to us.

Hashes and addresses are 0x and lower-case hex digits, amounts are wei.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from eventsourcing.domain import Aggregate, event

from shared.money import Wei

ROUND_BYTES = 32  # a ticket's aux data begin with the round it was made in


@dataclass(frozen=True, slots=True)
class RedeemedTicket:
    """A winner that was redeemed; `paid` is 0 if there was nothing left to pay it from."""

    payer: str
    recipient: str
    recipient_rand_hash: str
    sender_nonce: int
    face_value: Wei
    win_prob: str
    aux_data: str
    paid: Wei
    tx_hash: str
    log_index: int
    block: int
    block_hash: str

    @property
    def creation_round(self) -> int:
        return creation_round(self.aux_data)


def creation_round(aux_data: str) -> int:
    """The round a ticket names; 0 if it names none, which the broker pays for no more."""
    return int.from_bytes(bytes.fromhex(aux_data.removeprefix("0x"))[:ROUND_BYTES])


class Kind(StrEnum):
    """What a redemption is to us."""

    PENDING = "pending"  # seen, and not looked for in the signer's log yet
    SIGNED = "signed"
    RECOVERED = "recovered"  # signed by us, and lost from our log or found late
    ORPHAN = "orphan"  # our key signed it, and we know nothing of it


class Redemption(Aggregate):
    """One redeemed ticket, known by its place on the chain: seen, judged once, put right at most once."""

    TOPIC = "deposit_watcher.redemption"

    class Event(Aggregate.Event):
        TOPIC = "deposit_watcher.redemption.event"

    class OnChain(Event, Aggregate.Created):
        """What the broker logged; the base of both that follow."""

        TOPIC = "deposit_watcher.redemption.created"
        chain_id: int
        payer: str
        recipient: str
        recipient_rand_hash: str
        sender_nonce: int
        face_value: Wei
        win_prob: str
        aux_data: str
        paid: Wei
        tx_hash: str
        log_index: int
        block: int
        block_hash: str

    class TicketRedeemed(OnChain):
        """What was told of each before tickets were looked for; none are written any more."""

        TOPIC = "deposit_watcher.ticket_redeemed"

        def apply(self, aggregate: Any) -> None:
            aggregate.kind = Kind.SIGNED

    class Seen(OnChain):
        TOPIC = "deposit_watcher.redemption_seen"

    class Matched(Event):
        TOPIC = "deposit_watcher.redemption_matched"

    class Recovered(Event):
        TOPIC = "deposit_watcher.redemption_recovered"
        reason: str

    class Orphaned(Event):
        TOPIC = "deposit_watcher.redemption_orphaned"

    @staticmethod
    def create_id(chain_id: int, tx_hash: str, log_index: int) -> UUID:
        return uuid5(NAMESPACE_URL, f"/chains/{chain_id}/transactions/{tx_hash}/logs/{log_index}")

    @event(Seen)
    def __init__(
        self,
        chain_id: int,
        payer: str,
        recipient: str,
        recipient_rand_hash: str,
        sender_nonce: int,
        face_value: Wei,
        win_prob: str,
        aux_data: str,
        paid: Wei,
        tx_hash: str,
        log_index: int,
        block: int,
        block_hash: str,
        timestamp: datetime,
    ) -> None:
        self.ticket = RedeemedTicket(
            payer,
            recipient,
            recipient_rand_hash,
            sender_nonce,
            face_value,
            win_prob,
            aux_data,
            paid,
            tx_hash,
            log_index,
            block,
            block_hash,
        )
        self.kind = Kind.PENDING
        self.reason = ""

    def match(self, now: datetime) -> None:
        """It is in the signer's log, as it was redeemed."""
        if self.kind == Kind.PENDING:
            self._matched(now)

    def recover(self, reason: str, now: datetime) -> None:
        """We signed it, though the log did not say so; an orphan is put right by this."""
        if self.kind in {Kind.PENDING, Kind.ORPHAN}:
            self._recovered(reason, now)

    def orphan(self, now: datetime) -> None:
        if self.kind == Kind.PENDING:
            self._orphaned(now)

    @event(Matched)
    def _matched(self, timestamp: datetime) -> None:
        self.kind = Kind.SIGNED

    @event(Recovered)
    def _recovered(self, reason: str, timestamp: datetime) -> None:
        self.kind = Kind.RECOVERED
        self.reason = reason

    @event(Orphaned)
    def _orphaned(self, timestamp: datetime) -> None:
        self.kind = Kind.ORPHAN
