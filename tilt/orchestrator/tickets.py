"""Probabilistic tickets: what is quoted, what is signed, what wins (protocol.md §4 and §7.1).

A recipient never stores what it quotes. The preimage of a quote is an HMAC over all its fields,
so a ticket that comes back with any of them changed no longer fits its own hash.
"""

import hmac
import secrets
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import NewType

from tilt.orchestrator.addresses import Address
from tilt.orchestrator.signatures import keccak256

Wei = NewType("Wei", int)

CERTAIN = 2**256 - 1  # win probabilities are counted over this, not over 2**256
WORD_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketParams:
    """What an orchestrator quotes to one sender; every ticket under it differs in its nonce."""

    recipient: Address
    face_value: Wei
    win_prob: int
    recipient_rand_hash: bytes
    seed: int
    expiration_block: int
    creation_round: int
    creation_round_block_hash: bytes

    @property
    def expected_value(self) -> Fraction:
        return Fraction(self.face_value * self.win_prob, CERTAIN)

    @property
    def aux_data(self) -> bytes:
        if self.creation_round == 0 and not any(self.creation_round_block_hash):
            return b""
        return word(self.creation_round) + self.creation_round_block_hash


@dataclass(frozen=True, slots=True)
class Ticket:
    params: TicketParams
    sender: Address
    nonce: int

    def flatten(self) -> bytes:
        params = self.params
        return b"".join(
            (
                params.recipient,
                self.sender,
                word(params.face_value),
                word(params.win_prob),
                word(self.nonce),
                params.recipient_rand_hash,
                params.aux_data,
            )
        )

    def hash(self) -> bytes:
        return keccak256(self.flatten())


def issue(params: TicketParams, *, secret: bytes, sender: Address, price: Fraction) -> TicketParams:
    """Give params a fresh seed and the hash of the preimage that only the secret's owner knows."""
    seeded = replace(params, seed=int.from_bytes(secrets.token_bytes(WORD_BYTES)))
    rand = recipient_rand(seeded, secret=secret, sender=sender, price=price)
    return replace(seeded, recipient_rand_hash=rand_hash(rand))


def recipient_rand(params: TicketParams, *, secret: bytes, sender: Address, price: Fraction) -> int:
    """Recompute the preimage of a quote from the quote itself."""
    message = b"".join(
        (
            minimal_bytes(params.seed),
            sender,
            minimal_bytes(params.face_value),
            minimal_bytes(params.win_prob),
            minimal_bytes(params.expiration_block),
            minimal_bytes(abs(price.numerator)),
            minimal_bytes(price.denominator),
            params.aux_data,
        )
    )
    return int.from_bytes(hmac.digest(secret, message, "sha256"))


def rand_hash(rand: int) -> bytes:
    return keccak256(word(rand))


def wins(signature: bytes, rand: int, win_prob: int) -> bool:
    """Draw the lottery that neither side can foresee: the signature is one's, the rand the other's."""
    return int.from_bytes(keccak256(signature + word(rand))) < win_prob


def win_prob_for(expected_value: Wei, face_value: Wei) -> int:
    if face_value == 0:
        return 0
    if face_value == expected_value:
        return CERTAIN
    quotient, remainder = divmod(CERTAIN, face_value)
    # go-livepeer looks at the low 64 bits of the remainder only.
    rounds_up = remainder % 2**64 != 0
    return expected_value * (quotient + rounds_up)


def word(number: int) -> bytes:
    return number.to_bytes(WORD_BYTES)


def minimal_bytes(number: int) -> bytes:
    """Write a number in as few big-endian bytes as it needs; zero needs none."""
    return number.to_bytes((number.bit_length() + 7) // 8)
