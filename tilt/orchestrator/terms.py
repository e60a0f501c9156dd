"""What the orchestrator asks for: how much a ticket is worth, how long a quote lives, and prices."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Self

from contracts.livepeer import payments_pb2 as pb
from tilt.orchestrator.auth_tokens import LIFE_SECONDS
from tilt.orchestrator.tickets import Wei

PARAMS_LIFE_BLOCKS = 40
PARAMS_LIFE_BLOCKS_MAX = 1_000
# A signer asks for new params once a token has less than 180 seconds left (§6.2).
SHORT_TOKEN_LIFE_SECONDS = 182
INT64_END = 2**63


class UnacceptableTermsError(ValueError):
    """No signer would sign under such terms."""


@dataclass(frozen=True, slots=True)
class Price:
    """Wei for so many units; what a unit is (pixel, second, call) depends on what is sold."""

    price_per_unit: int
    pixels_per_unit: int = 1

    def __post_init__(self) -> None:
        if not (0 <= self.price_per_unit < INT64_END and 0 < self.pixels_per_unit < INT64_END):
            raise UnacceptableTermsError("prices must be int64, and not negative")

    @classmethod
    def of(cls, price: Fraction) -> Self:
        return cls(price.numerator, price.denominator)

    @property
    def fraction(self) -> Fraction:
        return Fraction(self.price_per_unit, self.pixels_per_unit)

    def message(self, *, capability: int = 0, constraint: str = "") -> pb.PriceInfo:
        return pb.PriceInfo(
            price_per_unit=self.price_per_unit,
            pixels_per_unit=self.pixels_per_unit,
            capability=capability,
            constraint=constraint,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Every quote is made from the terms of its moment."""

    ticket_ev: Wei
    face_value: Wei
    params_life_blocks: int = PARAMS_LIFE_BLOCKS
    token_life_seconds: int = LIFE_SECONDS

    def __post_init__(self) -> None:
        if not 0 < self.ticket_ev < self.face_value < 2**256:
            raise UnacceptableTermsError("face value must exceed ticket EV, and both zero")
        if not 0 < self.params_life_blocks <= PARAMS_LIFE_BLOCKS_MAX:
            raise UnacceptableTermsError("params must live for 1 to 1000 blocks")
        if not 0 < self.token_life_seconds <= LIFE_SECONDS:
            raise UnacceptableTermsError("tokens must live for 1 to 1800 seconds")
