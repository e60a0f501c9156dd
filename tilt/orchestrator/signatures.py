"""EIP-191 personal signatures: who signed which bytes."""

from coincurve import PrivateKey, PublicKey
from sha3 import keccak_256

SIGNATURE_BYTES = 65
ORDER = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141


def keccak256(data: bytes) -> bytes:
    digest: bytes = keccak_256(data).digest()
    return digest


def personal_digest(message: bytes) -> bytes:
    """Hash a message the way wallets do before they sign it."""
    return keccak256(b"\x19Ethereum Signed Message:\n%d" % len(message) + message)


def is_signed_by(address: bytes, message: bytes, signature: bytes) -> bool:
    """Tell whether the 65 bytes r, s, v are this address's signature in its one accepted form."""
    if len(signature) != SIGNATURE_BYTES or signature[64] not in (27, 28):
        return False
    if int.from_bytes(signature[32:64]) > ORDER // 2:
        return False
    recoverable = signature[:64] + bytes([signature[64] - 27])
    try:
        key = PublicKey.from_signature_and_message(recoverable, personal_digest(message), hasher=None)
    except ValueError:
        return False
    return public_key_address(key) == address


def sign(key: PrivateKey, message: bytes) -> bytes:
    signature = key.sign_recoverable(personal_digest(message), hasher=None)
    return signature[:64] + bytes([signature[64] + 27])


def public_key_address(key: PublicKey) -> bytes:
    return keccak256(key.format(compressed=False)[1:])[-20:]
