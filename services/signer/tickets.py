"""What the payer's key signs, byte for byte: tickets, segment credentials, our own address.

Formats: docs/protocol.md; the layouts are go-livepeer's (`pm/ticket.go`, `core/livepeernode.go`).
"""

from base64 import b64encode
from functools import lru_cache
from typing import Protocol

from contracts.livepeer.payments_pb2 import AuthToken, Payment, SegData
from services.signer.quote import Quote
from shared.keccak import checksum_address, keccak

EMPTY_HASH = keccak(b"")  # of a segment without data
CACHED_MAX = 1024  # bytes of capabilities in credentials that are kept encoded
CAPABILITIES_FIELD = bytes([7 << 3 | 2])  # its number and wire type
VARINT_BITS, VARINT_MORE = 0x7F, 0x80
PROFILES = b"invalid"  # what go-livepeer sends in place of transcoding profiles


class Key(Protocol):
    """A payer's key. It signs 32-byte digests made in this module, and nothing else."""

    address: bytes  # 20 bytes

    def sign(self, digest: bytes) -> bytes:
        """The 65 bytes r || s || v, v being 27 or 28; deterministic (RFC 6979), low s."""
        ...


def personal_digest(message: bytes) -> bytes:
    r"""EIP-191: keccak256("\x19Ethereum Signed Message:\n" || length || message)."""
    prefix = b"\x19Ethereum Signed Message:\n%d" % len(message)
    return keccak(prefix + message)


def aux_data(creation_round: int, creation_round_hash: bytes) -> bytes:
    """64 bytes; none if both are zero (protocol §4.2)."""
    if creation_round == 0 and not any(creation_round_hash):
        return b""
    return creation_round.to_bytes(32) + creation_round_hash


class TicketHasher:
    """Hashes the tickets of one set of params, which differ in the nonce alone (protocol §4.3)."""

    def __init__(self, quote: Quote, sender: bytes) -> None:
        self._head = quote.recipient + sender + quote.face_value.to_bytes(32) + quote.win_prob.to_bytes(32)
        self._tail = quote.recipient_rand_hash + aux_data(quote.creation_round, quote.creation_round_hash)

    def flatten(self, nonce: int) -> bytes:
        return self._head + nonce.to_bytes(32) + self._tail

    def ticket_hash(self, nonce: int) -> bytes:
        return keccak(self.flatten(nonce))


def sign_tickets(key: Key, quote: Quote, nonces: range) -> list[bytes]:
    hasher = TicketHasher(quote, key.address)
    return [key.sign(personal_digest(hasher.ticket_hash(nonce))) for nonce in nonces]


def encode_payment(quote: Quote, sender: bytes, first_nonce: int, signatures: list[bytes]) -> str:
    """The `Payment` protobuf in base64 (protocol §4.9), for the header Livepeer-Payment.

    Protobuf is written in the order of field numbers, so what stands for all payments of a quote
    is kept as bytes: fields 1 to 3 before, field 5 behind the tickets' own.
    """
    before, behind = _payment_frame(quote, sender)
    tickets = Payment()
    for nonce, signature in enumerate(signatures, start=first_nonce):
        tickets.ticket_sender_params.add(sender_nonce=nonce, sig=signature)
    return b64encode(before + tickets.SerializeToString() + behind).decode()


@lru_cache(maxsize=4096)
def _payment_frame(quote: Quote, sender: bytes) -> tuple[bytes, bytes]:
    before = Payment(
        ticket_params=quote.ticket_params_message(),
        sender=sender,
        expiration_params=quote.expiration_params_message(),
    )
    behind = Payment(expected_price=quote.price_info_message())
    return before.SerializeToString(), behind.SerializeToString()


def sign_credentials(key: Key, manifest_id: str) -> bytes:
    """The signature of the segment credentials of a stream (protocol §4.10)."""
    flat = manifest_id.encode() + bytes(32) + EMPTY_HASH
    return key.sign(personal_digest(keccak(flat)))


def encode_credentials(manifest_id: str, signature: bytes, auth_token: bytes, capabilities: bytes) -> str:
    """The `SegData` protobuf in base64, for the header Livepeer-Segment."""
    encode = _kept_credentials if len(capabilities) <= CACHED_MAX else _credentials
    return encode(manifest_id, signature, auth_token, capabilities)


def _credentials(manifest_id: str, signature: bytes, auth_token: bytes, capabilities: bytes) -> str:
    """Capabilities go through as they came (field 7, before field 8): nothing is signed of them."""
    signed = SegData(
        manifest_id=manifest_id.encode(), hash=EMPTY_HASH, profiles=PROFILES, sig=signature
    ).SerializeToString()
    token = SegData(auth_token=AuthToken.FromString(auth_token)).SerializeToString()
    asked = CAPABILITIES_FIELD + _varint(len(capabilities)) + capabilities if capabilities else b""
    return b64encode(signed + asked + token).decode()


def _varint(number: int) -> bytes:
    """Protobuf's form of a length: seven bits a byte, the lowest first."""
    encoded = bytearray()
    while number > VARINT_BITS:
        encoded.append(number & VARINT_BITS | VARINT_MORE)
        number >>= 7
    return bytes([*encoded, number])


_kept_credentials = lru_cache(maxsize=20_000)(_credentials)


def sign_address(key: Key) -> tuple[str, str]:
    """Our address and its signature, as /sign-orchestrator-info answers (protocol §1.1)."""
    address = "0x" + checksum_address(key.address.hex())
    signature = key.sign(personal_digest(keccak(address.encode())))
    return address, "0x" + signature.hex()
