"""What senders have paid and used: balances per manifest, and the nonces already seen."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, Self

from tilt.orchestrator.addresses import Address

ACCOUNTS_MAX = 10_000
NONCES_MAX = 600

# Which way a manifest was first paid.
type Kind = Literal["runner", "live-video-to-video", "payment", "segment", "byoc"]


@dataclass(slots=True)
class Account:
    """One sender's prepaid balance for one manifest; its first payment fixes the price it is quoted."""

    sender: Address
    manifest_id: str
    kind: Kind
    credited: Fraction = Fraction(0)
    debited: Fraction = Fraction(0)
    price: Fraction | None = None  # none before the first payment
    payments: int = 0
    tickets: int = 0  # credited ones
    units: int = 0

    @property
    def balance(self) -> Fraction:
        return self.credited - self.debited

    def fix_price(self, price: Fraction) -> None:
        if self.price is None:
            self.price = price

    def credit(self, expected_value: Fraction) -> None:
        self.credited += expected_value
        self.tickets += 1

    def debit(self, units: int, price: Fraction) -> bool:
        """Take the fee for some units, or take nothing and say so."""
        fee = units * price
        if fee > self.balance:
            return False
        self.charge(units, fee)
        return True

    def charge(self, units: int, fee: Fraction) -> None:
        """Take a fee for what was used already, whether or not the balance covers it."""
        self.units += units
        self.debited += fee


class Ledger:
    def __init__(self) -> None:
        self._accounts: dict[tuple[Address, str], Account] = {}

    def __iter__(self) -> Iterator[Account]:
        return iter(self._accounts.values())

    def find(self, sender: Address, manifest_id: str) -> Account | None:
        return self._accounts.get((sender, manifest_id))

    def open(self, sender: Address, manifest_id: str, kind: Kind) -> Account:
        """Return the account of a manifest, made at its first payment."""
        account = self._accounts.setdefault((sender, manifest_id), Account(sender, manifest_id, kind))
        while len(self._accounts) > ACCOUNTS_MAX:
            del self._accounts[next(iter(self._accounts))]
        return account

    def forget(self) -> None:
        self._accounts.clear()


@dataclass(slots=True)
class SeenNonces:
    """Each nonce under the same params counts once, and only so many of them."""

    _nonces_by_rand_hash: dict[bytes, set[int]] = field(default_factory=dict)
    _expiration_by_rand_hash: dict[bytes, int] = field(default_factory=dict)

    @classmethod
    def remembering(cls, seen: Iterable[tuple[bytes, int, int]]) -> Self:
        nonces = cls()
        for rand_hash, nonce, expiration_block in seen:
            nonces.add(rand_hash, nonce, expiration_block)
        return nonces

    def fault_of(self, rand_hash: bytes, nonce: int) -> str | None:
        """Say why this nonce may not be used, if it may not."""
        nonces = self._nonces_by_rand_hash.get(rand_hash, set())
        if nonce in nonces:
            return f"invalid ticket senderNonce: already seen nonce={nonce}"
        if len(nonces) >= NONCES_MAX:
            return f"invalid ticket senderNonce: too many values nonce={nonce}"
        return None

    def add(self, rand_hash: bytes, nonce: int, expiration_block: int) -> None:
        self._nonces_by_rand_hash.setdefault(rand_hash, set()).add(nonce)
        self._expiration_by_rand_hash[rand_hash] = expiration_block

    def forget_expired(self, l1_block: int) -> None:
        """Drop what came under params that no ticket can use any more."""
        for rand_hash, expiration_block in list(self._expiration_by_rand_hash.items()):
            if expiration_block <= l1_block:
                del self._nonces_by_rand_hash[rand_hash]
                del self._expiration_by_rand_hash[rand_hash]

    def forget(self) -> None:
        self._nonces_by_rand_hash.clear()
        self._expiration_by_rand_hash.clear()
