"""Winning tickets: worth their face value once they are redeemed on the chain."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

from tilt.orchestrator.addresses import Address, checksummed, parse_address
from tilt.orchestrator.chain import Head
from tilt.orchestrator.store import Store
from tilt.orchestrator.tickets import Ticket, TicketParams, Wei

ROUNDS_BACK_MAX = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Winner:
    ticket: Ticket
    signature: bytes
    recipient_rand: int
    tx: str | None = None  # known before it is sent
    is_redeemed: bool = False
    fault: str | None = None  # why it will never be redeemed

    @property
    def is_open(self) -> bool:
        return not self.is_redeemed and self.fault is None

    def is_due(self, head: Head) -> bool:
        """Tell whether its params have expired while its round is still recent (§7.4)."""
        params = self.ticket.params
        oldest_round = head.last_initialized_round - ROUNDS_BACK_MAX
        return (
            self.is_open
            and params.expiration_block <= head.l1_block
            and params.creation_round >= oldest_round
        )

    def to_json(self) -> dict[str, Any]:
        params = self.ticket.params
        return {
            "ticket_hash": _hex(self.ticket.hash()),
            "ticket": {
                "recipient": checksummed(params.recipient),
                "sender": checksummed(self.ticket.sender),
                "face_value": str(params.face_value),
                "win_prob": str(params.win_prob),
                "sender_nonce": self.ticket.nonce,
                "recipient_rand_hash": _hex(params.recipient_rand_hash),
                "aux_data": _hex(params.aux_data),
                "creation_round": params.creation_round,
                "creation_round_block_hash": _hex(params.creation_round_block_hash),
                "seed": str(params.seed),
                "expiration_block": params.expiration_block,
            },
            "sig": _hex(self.signature),
            "recipient_rand": str(self.recipient_rand),
            "tx": self.tx,
            "redeemed_tx": self.tx if self.is_redeemed else None,
            "fault": self.fault,
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Self:
        return cls(
            ticket=_ticket_from_json(document["ticket"]),
            signature=_bytes(document["sig"]),
            recipient_rand=int(document["recipient_rand"]),
            tx=document["tx"],
            is_redeemed=document["redeemed_tx"] is not None,
            fault=document["fault"],
        )


class Winners:
    """Every winner ever seen, once; what changes is on disk before it counts."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._by_hash = {
            winner.ticket.hash(): winner
            for winner in (Winner.from_json(json.loads(text)) for text in store.winners())
        }

    def __iter__(self) -> Iterator[Winner]:
        return iter(self._by_hash.values())

    def add(self, winner: Winner) -> None:
        """Keep a winner; the same ticket can come twice but pays once."""
        if winner.ticket.hash() not in self._by_hash:
            self._save(winner)

    def pending(self, sender: Address) -> Wei:
        """What a sender's open winners are worth."""
        return Wei(
            sum(
                winner.ticket.params.face_value
                for winner in self
                if winner.is_open and winner.ticket.sender == sender
            )
        )

    def due(self, head: Head) -> list[Winner]:
        return [winner for winner in self if winner.is_due(head)]

    def sent(self, winner: Winner, tx: str) -> None:
        self._save(replace(self._current(winner), tx=tx))

    def redeemed(self, winner: Winner) -> None:
        self._save(replace(self._current(winner), is_redeemed=True))

    def lost(self, winner: Winner, fault: str) -> None:
        self._save(replace(self._current(winner), fault=fault))

    def _current(self, winner: Winner) -> Winner:
        return self._by_hash[winner.ticket.hash()]

    def _save(self, winner: Winner) -> None:
        ticket_hash = winner.ticket.hash()
        self._store.save_winner(ticket_hash, json.dumps(winner.to_json()))
        self._by_hash[ticket_hash] = winner


def _ticket_from_json(document: dict[str, Any]) -> Ticket:
    params = TicketParams(
        recipient=parse_address(document["recipient"]),
        face_value=Wei(int(document["face_value"])),
        win_prob=int(document["win_prob"]),
        recipient_rand_hash=_bytes(document["recipient_rand_hash"]),
        seed=int(document["seed"]),
        expiration_block=document["expiration_block"],
        creation_round=document["creation_round"],
        creation_round_block_hash=_bytes(document["creation_round_block_hash"]),
    )
    return Ticket(params, parse_address(document["sender"]), document["sender_nonce"])


def _hex(raw: bytes) -> str:
    return f"0x{raw.hex()}"


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))
