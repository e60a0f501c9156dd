"""Ethereum addresses: twenty bytes inside, checksummed text outside."""

from string import hexdigits
from typing import NewType

from tilt.orchestrator.signatures import keccak256

Address = NewType("Address", bytes)

ADDRESS_BYTES = 20
HEX_DIGITS = frozenset(hexdigits)
UPPER_FROM = 8  # EIP-55: a letter is upper case where the hash has its high bit set
NOBODY = Address(bytes(ADDRESS_BYTES))


def parse_address(text: str) -> Address:
    """Read 40 hex digits with or without 0x; raise ValueError on anything else."""
    digits = text.removeprefix("0x").removeprefix("0X")
    if len(digits) != 2 * ADDRESS_BYTES or not set(digits) <= HEX_DIGITS:
        raise ValueError(f"invalid address: {text!r}")
    return Address(bytes.fromhex(digits))


def address_of_bytes(raw: bytes) -> Address:
    """Keep the last twenty bytes and pad shorter ones on the left, as Go does."""
    return Address(raw[-ADDRESS_BYTES:].rjust(ADDRESS_BYTES, b"\0"))


def checksummed(address: Address) -> str:
    """Write an address as EIP-55 text."""
    digits = address.hex()
    marks = keccak256(digits.encode()).hex()
    pairs = zip(digits, marks, strict=False)
    return "0x" + "".join(digit.upper() if int(mark, 16) >= UPPER_FROM else digit for digit, mark in pairs)
