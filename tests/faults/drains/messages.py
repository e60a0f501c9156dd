"""What a payer's key may sign, written down once more: none of the signer's code is used here.

Formats: /docs/protocol.md of this project and go-livepeer's `pm/ticket.go`, `core/livepeernode.go`.
"""

from coincurve import PrivateKey, PublicKey
from eth_utils.crypto import keccak

from tilt.chain.local_chain import Ticket

EMPTY_HASH = keccak(b"")


def ticket_bytes(ticket: Ticket) -> bytes:
    """168 bytes and the auxiliary data, which is 64 bytes or none."""
    return (
        _address(ticket.recipient)
        + _address(ticket.sender)
        + ticket.face_value.to_bytes(32)
        + ticket.win_prob.to_bytes(32)
        + ticket.sender_nonce.to_bytes(32)
        + ticket.recipient_rand_hash
        + ticket.aux_data
    )


def ticket_hash(ticket: Ticket) -> bytes:
    return keccak(ticket_bytes(ticket))


def credentials_bytes(manifest_id: bytes) -> bytes:
    """Segment credentials of an empty segment: number 0, hash of nothing, no profiles."""
    return manifest_id + bytes(32) + EMPTY_HASH


def personal(message: bytes) -> bytes:
    """The digest of EIP-191 that is signed for a message."""
    return keccak(b"\x19Ethereum Signed Message:\n" + str(len(message)).encode() + message)


def ticket_digest(ticket: Ticket) -> bytes:
    return personal(ticket_hash(ticket))


def credentials_digest(manifest_id: bytes) -> bytes:
    return personal(keccak(credentials_bytes(manifest_id)))


def address_digest(checksum_address: str) -> bytes:
    return personal(keccak(checksum_address.encode()))


def signer_of(digest: bytes, signature: bytes) -> str:
    """The address whose key made this signature over this digest; empty if there is none."""
    if len(signature) != 65 or signature[64] not in {27, 28}:
        return ""
    try:
        key = PublicKey.from_signature_and_message(
            signature[:64] + bytes([signature[64] - 27]), digest, hasher=None
        )
    except ValueError:
        return ""
    return "0x" + keccak(key.format(compressed=False)[1:])[-20:].hex()


def sign(secret: bytes, digest: bytes) -> bytes:
    signature = PrivateKey(secret).sign_recoverable(digest, hasher=None)
    return signature[:64] + bytes([signature[64] + 27])


def _address(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))
