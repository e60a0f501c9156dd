"""What was spent: in all, and in the window of each kind that the last spend was in.

Plain dictionaries, for they are the state of aggregates: `{"zone": …, "all": [wei, worth], "hour":
[start, wei, worth], …}`, a start in seconds since 1970.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NewType

from services.quota.domain.limits import Limits
from services.quota.domain.windows import KINDS, Kind, ends_at, starts_at
from shared.money import MicroUsd, Wei

# Wei times the micro-dollars of an ETH, so that sums stay exact: 10**18 of it are a micro-dollar.
Worth = NewType("Worth", int)
WORTH = 10**18
CREDIT = "credit_limit_micro_usd"


@dataclass(frozen=True, slots=True)
class Rate:
    """What an ETH is worth, who says so, and when it was so."""

    micro_usd_per_eth: MicroUsd
    source: str
    observed_at: datetime

    def worth(self, amount: Wei) -> Worth:
        return Worth(amount * self.micro_usd_per_eth)


def rated(rate: Rate | None) -> dict[str, Any]:
    """What an event of spend says of its rate; nothing where none was known."""
    if rate is None:
        return {}
    return {
        "micro_usd_per_eth": rate.micro_usd_per_eth,
        "rate_source": rate.source,
        "rate_at": rate.observed_at,
    }


def micro_usd(worth: Worth) -> MicroUsd:
    """In whole micro-dollars, rounded up: for showing, nothing is decided on it."""
    return MicroUsd(-(-worth // WORTH))


def no_spending() -> dict[str, Any]:
    return {"zone": "UTC", "all": [0, 0], **{kind: [0, 0, 0] for kind in KINDS}}


def add_spend(spending: dict[str, Any], amount: Wei, worth: Worth, at: datetime, zone: str) -> None:
    """Count a spend in the windows of its time; one that comes after a turn counts in none that is over.

    With another time zone than before, what was spent in the windows that run counts in its windows.
    Less than nothing is taken back from them.
    """
    if at.timestamp() < spending["hour"][0]:
        zone = spending["zone"]  # what comes late turns no clock
    spending["all"][0] += amount
    spending["all"][1] += worth
    for kind in KINDS:
        start = _start(kind, at, zone)
        if zone != spending["zone"]:
            spending[kind] = [start, *spent_in(spending, kind, at)]
        if start > spending[kind][0]:
            spending[kind] = [start, 0, 0]
        if start == spending[kind][0]:
            spending[kind][1] = max(0, spending[kind][1] + amount)  # a clock set since may have left some out
            spending[kind][2] = max(0, spending[kind][2] + worth)
    spending["zone"] = zone


def spent_in(spending: dict[str, Any], kind: Kind | None, at: datetime) -> tuple[Wei, Worth]:
    """What was spent in all, or in the window of this kind that a moment lies in."""
    if kind is None:
        wei, worth = spending["all"]
        return Wei(wei), Worth(worth)
    start, wei, worth = spending[kind]
    if start != _start(kind, at, spending["zone"]):
        return Wei(0), Worth(0)
    return Wei(wei), Worth(worth)


def _start(kind: Kind, at: datetime, zone: str) -> int:
    return int(starts_at(kind, at, zone).timestamp())


@dataclass(frozen=True, slots=True)
class Standing:
    """One spend limit and what is left of it. `in_usd`: all amounts are Worth, else Wei.

    Of the credit limit what grants have left is part of `limit`; what was `drawn` of them is in neither.
    """

    name: str
    limit: int
    spent: int
    held: int
    resets_at: datetime | None  # None: never
    in_usd: bool
    drawn: int = 0

    @property
    def window(self) -> int:
        """Which of its windows it is, by its end; 0 if there is but one."""
        return int(self.resets_at.timestamp()) if self.resets_at else 0

    @property
    def reason(self) -> str:
        """The stable name of a refusal."""
        return "credit_exhausted" if self.name == CREDIT else "spend_limit_reached"

    @property
    def reason_text(self) -> str:
        return "credit exhausted" if self.name == CREDIT else "spend limit reached"

    @property
    def remaining(self) -> int:
        return max(0, self.limit - self.spent - self.held)

    def in_wei(self, rate: Rate | None) -> Wei:
        """What remains, in wei, rounded down."""
        if not self.in_usd:
            return Wei(self.remaining)
        return Wei(self.remaining // rate.micro_usd_per_eth) if rate else Wei(0)


def standings(
    limits: Limits, spending: dict[str, Any], held: Wei, *, rate: Rate | None, at: datetime, zone: str
) -> list[Standing]:
    """Each spend limit that is set; what is held may be spent in the window we are in."""
    found = []
    for kind in (None, *KINDS):
        spent_wei, spent_worth = spent_in(spending, kind, at)
        limit_wei, limit_micro_usd = limits.spend(kind)
        name = f"spend_per_{kind}" if kind else "spend_limit"
        turn = ends_at(kind, at, zone) if kind else None
        if limit_wei is not None:
            found.append(Standing(f"{name}_wei", limit_wei, spent_wei, held, turn, in_usd=False))
        if limit_micro_usd is not None:
            worth = rate.worth(held) if rate else 0
            limit = limit_micro_usd * WORTH
            found.append(Standing(f"{name}_micro_usd", limit, spent_worth, worth, turn, in_usd=True))
    return found
