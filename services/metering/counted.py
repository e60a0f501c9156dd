"""What meters count: of which table, by which groups, and what is summed of a row.

A sum is kept exact: a numerator by denominator, and rounded down once, at the end.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import LiteralString

from psycopg.rows import DictRow
from psycopg.sql import SQL, Composable, Identifier, Literal

from services.metering.domain.usage import whole_wei


@dataclass(frozen=True, slots=True)
class Sum:
    """A meter that adds up. A row says nothing of it where `counts` and `numerator` are zero.

    `places` after the decimal point; None: as many as there are.
    """

    table: LiteralString
    keys: Mapping[str, Composable]  # columns, by the name of the group
    numerator: LiteralString
    counts: LiteralString
    denominator: LiteralString = "1"
    places: int | None = 0
    late: LiteralString = "late"
    late_of: int = 1  # as many late ones make one
    where: Composable = field(default_factory=lambda: SQL("true"))


@dataclass(frozen=True, slots=True)
class Distinct:
    """A meter that keeps values: the highest of them, or how many there are."""

    keys: Mapping[str, Composable]
    where: Composable
    is_max: bool
    table: LiteralString = "meter_values"


type Meter = Sum | Distinct


def _columns(**columns: LiteralString) -> Mapping[str, Composable]:
    return {name: Identifier(column) for name, column in columns.items()}


USAGE_KEYS = _columns(
    account="account_id",
    user="user_id",
    key="key_id",
    job_type="job_type",
    app="app",
    capability="capability",
    recipient="recipient",
)
STREAM_KEYS = _columns(account="account_id", user="user_id", app="app")
OWNER_KEYS = _columns(account="account_id", user="user_id")
GROUP = SQL("groups[{}]")


def _paid(numerator: LiteralString, denominator: LiteralString = "1") -> Sum:
    return Sum("usage_hourly", USAGE_KEYS, numerator, "payments", denominator)


BUILT_IN: Mapping[str, Sum] = {
    "payment_cost_wei": _paid("cost"),
    "payment_fee_wei": _paid("fee_numerator", "fee_denominator"),
    "tickets": _paid("tickets"),
    "sessions": Sum("usage_hourly", USAGE_KEYS, "sessions", "sessions"),
    "pixels": Sum("usage_hourly", USAGE_KEYS, "units", "payments", where=SQL("job_type IN ('', 'lv2v')")),
    "billable_seconds": Sum(
        "usage_hourly",
        USAGE_KEYS,
        "units",
        "payments",
        "CASE job_type WHEN 'lv2v' THEN 1280 * 720 * 30 ELSE 1 END",  # protocol §5.1
        places=3,
        where=SQL("job_type IN ('live', 'lv2v')"),
    ),
    "stream_seconds": Sum(
        "stream_hourly", STREAM_KEYS, "ms", "ms", "1000", places=3, late="late_ms", late_of=1000
    ),
    "usage_events": Sum(
        "meter_hourly",
        {**OWNER_KEYS, "type": GROUP.format(Literal(1))},
        "amount",
        "records",
        where=SQL("meter = 'usage_events'"),
    ),
}


def defined(row: DictRow) -> Meter:
    """A meter that an administrator defined, as the table `meters` has it."""
    own = {name: GROUP.format(Literal(place)) for place, name in enumerate(row["group_by"], start=1)}
    keys = {**own, **OWNER_KEYS}
    where = SQL("meter = {}").format(Literal(row["name"]))
    if row["aggregation"] in {"max", "unique"}:
        return Distinct(keys, where, is_max=row["aggregation"] == "max")
    return Sum("meter_hourly", keys, "amount", "records", places=None, where=where)


def floor_text(terms: Sequence[tuple[int, int]], places: int) -> str:
    """The floor of an exact sum of fractions, with so many places."""
    scale = 10**places
    if len(denominators := {denominator for _, denominator in terms}) == 1:
        scaled = sum(numerator for numerator, _ in terms) * scale // denominators.pop()
    else:
        scaled = whole_wei((numerator * scale, denominator) for numerator, denominator in terms)
    sign, digits = "-" if scaled < 0 else "", str(abs(scaled)).rjust(places + 1, "0")
    return f"{sign}{digits[:-places]}.{digits[-places:]}" if places else f"{sign}{digits}"


def plain_text(number: Decimal | int) -> str:
    """A decimal number without an exponent, and without zeros at its end."""
    text = f"{Decimal(number):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
