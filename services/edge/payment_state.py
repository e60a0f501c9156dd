"""What go-livepeer's signer tells its auth webhook of a payment, as Go's `encoding/json` writes it.

Its state has no tags, so fields are named as they are in Go. Those of later releases are ignored;
what we know has to be as it is there.
"""

import re
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from contracts.limits import PRINTABLE

# Go writes up to nanoseconds, which `datetime` would lose.
MOMENT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", re.ASCII)
NEVER = "0001-01-01T00:00:00Z"  # Go's zero time
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NANOSECONDS = 10**9
INTEGER_TEXT = re.compile(r"\d{1,20}", re.ASCII)
RATIO_LENGTH_MAX = 200  # of what quota takes


def nanoseconds(text: str) -> int:
    """Return a moment of RFC 3339 in nanoseconds since 1970. Raises ValueError if there is no such moment."""
    match = MOMENT.fullmatch(text)
    if match is None:
        raise ValueError("a time is expected, such as 2026-03-01T12:00:00.5Z")
    second = datetime.fromisoformat(match[1] + match[3])
    return (second - EPOCH) // timedelta(seconds=1) * NANOSECONDS + int((match[2] or "").ljust(9, "0"))


def _check_moment(text: str) -> str:
    nanoseconds(text)
    return text


def _read_integer(given: object) -> object:
    """Take a number that was told as text, too."""
    if isinstance(given, str) and INTEGER_TEXT.fullmatch(given):
        return int(given)
    return given


def _shorten(ratio: str) -> str:
    """Round down to whole wei what is too exact to travel: a denominator grows with each new price."""
    if len(ratio) <= RATIO_LENGTH_MAX:
        return ratio
    exact = Fraction(ratio)
    whole = str(exact.numerator // exact.denominator)
    if len(whole) > RATIO_LENGTH_MAX:
        raise ValueError("no such balance: it has too many digits")
    return whole


type Whole = Annotated[int, BeforeValidator(_read_integer), Field(strict=True, ge=0, lt=2**64)]
type Price = Annotated[int, BeforeValidator(_read_integer), Field(strict=True, ge=0, lt=2**63)]
type Pixels = Annotated[int, BeforeValidator(_read_integer), Field(strict=True, ge=1, lt=2**63)]
type GoTime = Annotated[str, Field(max_length=64), AfterValidator(_check_moment)]
type Ratio = Annotated[
    str,
    StringConstraints(pattern=r"^-?[0-9]{1,1000}(/[1-9][0-9]{0,999})?$"),
    AfterValidator(_shorten),
    Field(description="As Go's `big.Rat` is written: `12`, `-12/7`."),
]


class PaymentState(BaseModel):
    """The signer's state of a session, after the payment."""

    model_config = ConfigDict(frozen=True)

    state_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{1,128}$")] = Field(alias="StateID")
    last_update: GoTime = Field(alias="LastUpdate")
    orchestrator_address: Annotated[str, StringConstraints(pattern=r"^0x[0-9a-fA-F]{40}$")] = Field(
        alias="OrchestratorAddress"
    )
    app: Annotated[str, StringConstraints(max_length=128, pattern=PRINTABLE)] = Field(alias="App")
    balance: Ratio = Field(alias="Balance")
    price_per_unit: Price = Field(alias="InitialPricePerUnit")
    pixels_per_unit: Pixels = Field(alias="InitialPixelsPerUnit")
    job_type: Literal["", "live", "lv2v", "fixed"] = Field(alias="Type")
    sequence: Whole = Field(alias="SequenceNumber")

    @property
    def last_update_ns(self) -> int | None:
        return None if self.last_update == NEVER else nanoseconds(self.last_update)


class PaymentToAuthorize(BaseModel):
    """The headers that the customer's request had, and the state that it led to."""

    headers: dict[str, list[str]]
    state: PaymentState

    def header(self, name: str) -> str | None:
        """Return the first value of a header, whatever its case."""
        values = next((values for known, values in self.headers.items() if known.lower() == name), [])
        return values[0] if values else None
