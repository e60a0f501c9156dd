"""Tickets as bytes, and who signed them, written once more from go-livepeer's `pm/ticket.go`.

Only the protobuf messages of the official SDK are used, none of ours.
"""

from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from coincurve import PublicKey
from eth_utils.crypto import keccak
from livepeer_gateway import lp_rpc_pb2 as pb

SIGNATURE_BYTES = 65
CERTAIN = 2**256 - 1  # the win probability of a ticket that always wins


class TicketId(NamedTuple):
    payer: str  # 0x and 40 lower-case digits
    rand_hash: str  # hex
    nonce: int


@dataclass(frozen=True, slots=True)
class Params:
    """What all tickets of one recipient_rand_hash share."""

    recipient: bytes
    face_value: int
    win_prob: int
    rand_hash: bytes
    creation_round: int
    creation_round_hash: bytes

    @classmethod
    def read(cls, params: Any, expiration: Any) -> "Params":
        """From the protobuf messages TicketParams and TicketExpirationParams."""
        return cls(
            recipient=params.recipient,
            face_value=int.from_bytes(params.face_value),
            win_prob=int.from_bytes(params.win_prob),
            rand_hash=params.recipient_rand_hash,
            creation_round=expiration.creation_round,
            creation_round_hash=expiration.creation_round_block_hash,
        )

    def cost(self, tickets: int) -> int:
        """Expected value of so many tickets in wei, rounded up once."""
        return -(-tickets * self.face_value * self.win_prob // CERTAIN)

    def digest(self, payer: str, nonce: int) -> bytes:
        """What a signature is made over: EIP-191 of the ticket's hash."""
        flat = b"".join(
            (
                self.recipient,
                bytes.fromhex(payer.removeprefix("0x")),
                self.face_value.to_bytes(32),
                self.win_prob.to_bytes(32),
                nonce.to_bytes(32),
                self.rand_hash,
                self.creation_round.to_bytes(32),
                self.creation_round_hash,
            )
        )
        return keccak(b"\x19Ethereum Signed Message:\n32" + keccak(flat))


@lru_cache(maxsize=10_000)
def stored_params(text: str) -> Params:
    """From base64 of TicketParams, as a sequence of nonces keeps it."""
    message = pb.TicketParams.FromString(b64decode(text))
    return Params.read(message, message.expiration_params)


def is_signed_by(payer: str, digest: bytes, signature: bytes) -> bool:
    if len(signature) != SIGNATURE_BYTES or signature[64] not in {27, 28}:
        return False
    recoverable = signature[:64] + bytes([signature[64] - 27])
    try:
        key = PublicKey.from_signature_and_message(recoverable, digest, hasher=None)
    except ValueError:
        return False
    return "0x" + keccak(key.format(compressed=False)[1:])[-20:].hex() == payer


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a client was answered: `payment` is the protobuf Payment, byte for byte.

    `digest` names the request that was answered, if it was one that must never be charged twice
    (base64 of half its SHA-256, as the log keeps it); empty if it may.
    """

    account_id: str
    session_id: str
    payment: bytes
    digest: str = ""

    def tickets(self) -> Iterator[tuple[TicketId, bytes]]:
        """Each ticket with its signature."""
        message = pb.Payment.FromString(self.payment)
        payer, rand_hash = "0x" + message.sender.hex(), message.ticket_params.recipient_rand_hash.hex()
        for one in message.ticket_sender_params:
            yield TicketId(payer, rand_hash, one.sender_nonce), one.sig

    def params(self) -> Params:
        message = pb.Payment.FromString(self.payment)
        return Params.read(message.ticket_params, message.expiration_params)
