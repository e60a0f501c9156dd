"""Credit: what an account has prepaid or was given, and what it owes.

Spend draws on grants, those of the lowest priority number first, of equals the one that expires
first; what no grant covers is owed. What had counted for too much is given back, and drawn on before
any grant: `owed` is less than nothing meanwhile. Plain dictionaries, for they are the state of an
aggregate; amounts are Worth, times seconds since 1970.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from services.quota.domain.spending import CREDIT, WORTH, Standing, Worth
from shared.money import MicroUsd
from shared.refusal import Refused

GRANTS_MAX = 1_000  # of an account that are neither used up nor expired


class CreditGrantNotFound(Refused):
    code = "credit_grant_not_found"


class CreditGrantIdTaken(Refused):
    code = "credit_grant_id_taken"


class TooManyCreditGrants(Refused):
    code = "too_many_credit_grants"


class GrantKind(StrEnum):
    PREPAID = "prepaid"
    TRIAL = "trial"
    PROMOTION = "promotion"


@dataclass(frozen=True, slots=True)
class CreditGrant:
    """What an account may spend before it owes anything. Its id is the operator's, for repeats."""

    grant_id: str
    kind: GrantKind
    amount: MicroUsd
    priority: int = 100  # lower ones are drawn on first
    expires: int | None = None  # seconds since 1970


def no_credit() -> dict[str, Any]:
    return {"grants": {}, "owed": 0}


def is_valid(grant: Mapping[str, Any], at: datetime) -> bool:
    return grant["left"] > 0 and (grant["expires"] is None or grant["expires"] > at.timestamp())


def in_order(credit: Mapping[str, Any], at: datetime) -> list[dict[str, Any]]:
    """The grants that may be drawn on now, the first to be drawn first."""
    never = float("inf")

    def key(entry: tuple[str, dict[str, Any]]) -> tuple[int, float, str]:
        grant_id, grant = entry
        return (grant["priority"], never if grant["expires"] is None else grant["expires"], grant_id)

    valid = [(name, grant) for name, grant in credit["grants"].items() if is_valid(grant, at)]
    return [grant for _, grant in sorted(valid, key=key)]


def draw(credit: dict[str, Any], worth: Worth, at: datetime) -> None:
    """Less than nothing gives back."""
    rest = int(worth) + min(0, credit["owed"])
    if rest <= 0 or worth < 0:
        credit["owed"] += worth
        return
    credit["owed"] = max(0, credit["owed"])
    for grant in in_order(credit, at):
        drawn = min(rest, grant["left"])
        grant["left"] -= drawn
        rest -= drawn
        if not rest:
            return
    credit["owed"] += rest


def prepaid(credit: Mapping[str, Any], at: datetime) -> Worth:
    """What is left of all grants that are valid, and what was given back."""
    return Worth(sum(grant["left"] for grant in in_order(credit, at)) + max(0, -credit["owed"]))


def owed(credit: Mapping[str, Any]) -> Worth:
    return Worth(max(0, credit["owed"]))


def drawn(credit: Mapping[str, Any], at: datetime) -> Worth:
    """What was drawn of the grants that are valid: used up ones are history."""
    valid = [grant for grant in credit["grants"].values() if is_valid(grant, at)]
    return Worth(sum(grant["amount"] * WORTH - grant["left"] for grant in valid))


def standing(credit: Mapping[str, Any], credit_limit: MicroUsd, held: Worth, at: datetime) -> Standing:
    """What may be owed, beyond what grants have left, as one more limit."""
    limit = credit_limit * WORTH + prepaid(credit, at)
    return Standing(CREDIT, limit, owed(credit), held, None, in_usd=True, drawn=drawn(credit, at))


def is_trial(credit: Mapping[str, Any], at: datetime) -> bool:
    """Whether an account lives on trial credit alone."""
    kinds = {grant["kind"] for grant in in_order(credit, at)}
    return kinds == {GrantKind.TRIAL}


def next_expiry(credit: Mapping[str, Any], at: datetime) -> int | None:
    """When the first of the valid grants expires, in seconds since 1970."""
    times = [grant["expires"] for grant in in_order(credit, at) if grant["expires"] is not None]
    return min(times, default=None)


def check_may_add(credit: Mapping[str, Any], grant: CreditGrant, at: datetime) -> bool:
    """Whether it is new. Raises CreditGrantIdTaken or TooManyCreditGrants."""
    known = credit["grants"].get(grant.grant_id)
    if known is None:
        if len(in_order(credit, at)) >= GRANTS_MAX:
            raise TooManyCreditGrants(f"the account has {GRANTS_MAX} grants of credit already")
        return True
    if {name: known[name] for name in ("kind", "amount", "priority", "expires")} != {
        "kind": grant.kind.value,
        "amount": grant.amount,
        "priority": grant.priority,
        "expires": grant.expires,
    }:
        raise CreditGrantIdTaken(f"another grant of credit has the id {grant.grant_id}")
    return False


def add(credit: dict[str, Any], grant: CreditGrant, at: datetime) -> None:
    """Those that are over make room: they are in the log."""
    if len(credit["grants"]) >= GRANTS_MAX:
        over = [name for name, known in credit["grants"].items() if not is_valid(known, at)]
        del credit["grants"][over[0]]
    credit["grants"][grant.grant_id] = {
        "kind": str(grant.kind),
        "amount": grant.amount,
        "left": grant.amount * WORTH,
        "priority": grant.priority,
        "expires": grant.expires,
    }


def find(credit: Mapping[str, Any], grant_id: str) -> dict[str, Any]:
    """Raise CreditGrantNotFound unless there is one of this id."""
    grant: dict[str, Any] | None = credit["grants"].get(grant_id)
    if grant is None:
        raise CreditGrantNotFound(f"there is no grant of credit {grant_id}")
    return grant
