"""Ethereum addresses as people write them: lower case, or with the checksum of EIP-55."""

import re

from shared.keccak import checksum_address

ADDRESS = re.compile("0x[0-9a-fA-F]{40}")


def read_address(text: str) -> str:
    """Return 0x and 40 lower-case digits; raise ValueError if that is not what it says.

    Mixed case is a checksum, and has to fit: a mistyped address would pay from nowhere.
    """
    if not ADDRESS.fullmatch(text):
        raise ValueError("an address is 0x and 40 hex digits")
    digits = text[2:]
    if digits not in {digits.lower(), digits.upper(), checksum_address(digits.lower())}:
        raise ValueError("the upper and lower case of the address are not its checksum (EIP-55)")
    return text.lower()
