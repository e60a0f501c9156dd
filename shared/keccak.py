"""Ethereum's hash: Keccak-256 as it was before SHA-3 was standardised."""

from sha3 import keccak_256


def keccak(data: bytes) -> bytes:
    digest: bytes = keccak_256(data).digest()
    return digest
