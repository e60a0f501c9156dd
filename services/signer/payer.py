"""A payer: its key, and the chain with its funds as they were seen last."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from services.signer.rules import ChainView
from services.signer.tickets import Key, sign_address


@dataclass(frozen=True)
class Payer:
    """`chain` gives the chain as seen last, or None if that is too long ago."""

    key: Key
    chain: Callable[[], ChainView | None]

    @cached_property
    def address(self) -> str:
        """0x and 40 lower-case digits: as payers are named everywhere but on the wire."""
        return "0x" + self.key.address.hex()

    @cached_property
    def signed_address(self) -> tuple[str, str]:
        return sign_address(self.key)
