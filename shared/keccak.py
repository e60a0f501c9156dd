"""Ethereum's hash: Keccak-256 as it was before SHA-3 was standardised."""

from sha3 import keccak_256


def keccak(data: bytes) -> bytes:
    digest: bytes = keccak_256(data).digest()
    return digest


def checksum_address(digits: str) -> str:
    """EIP-55: a letter of forty lower-case digits is upper case where their hash has 8 or more."""
    digest = keccak(digits.encode()).hex()
    cased = (digit.upper() if hashed >= "8" else digit for digit, hashed in zip(digits, digest, strict=False))
    return "".join(cased)
