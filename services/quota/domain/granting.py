"""Whether an ask fits into limits, and how much of what is left one session may lease.

The same for an account and for its users, keys and tokens: `whose` says of whom in a sentence.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from services.quota.domain.limits import Limits
from services.quota.domain.refusal import (
    RETRY_AFTER_SECONDS,
    AllowanceRefusal,
    RateUnknown,
    SpendLimitReached,
)
from services.quota.domain.spending import CREDIT, Rate, Standing, micro_usd
from services.quota.domain.spending import Worth as WorthOf
from shared.money import Wei

WARNED_AT = (100, 80, 50)  # percent of a limit
REARMED_BELOW = 5  # points under what was warned of, before it is warned of again
KEPT_FOR_RUNNING = 20  # that part of a limit, where a plan says who goes without first
SESSIONS_RETRY_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Ask:
    """A session's wish; (session_id, number) is its identity."""

    account_id: str
    key_id: str
    session_id: str
    number: int
    payer: str
    needed: Wei
    wanted: Wei
    user_id: str | None = None
    token_id: str | None = None

    @property
    def is_new(self) -> bool:
        """Whether its session has been granted nothing yet."""
        return self.number == 1


@dataclass(frozen=True, slots=True)
class Conditions:
    """What is decided with: the limits of the scope, what an ETH is worth, when it is and where."""

    limits: Limits
    rate: Rate | None
    zone: str
    now: datetime
    keeps_for_running: bool = False  # its plan says who goes without first
    brought: int = 0  # wei that the session which asks holds from before it was counted here


class Books(Protocol):
    """A budget: that of an account, or of one of its users, keys or tokens."""

    sessions: dict[str, Any]
    reached: dict[str, list[Any]]

    def standings(self, conditions: Conditions) -> list[Standing]: ...


def check(ask: Ask, whose: str, books: Books, conditions: Conditions) -> Standing | None:
    """Raise AllowanceRefusal unless the ask fits into all limits of these books.

    Returns the limit that it does not fit into, if its session may go on for a while all the same.
    """
    check_sessions(ask, whose, books, conditions.limits.sessions_max)
    limits = refusing(books, conditions)
    try:
        check_spend(ask, whose, limits, conditions.rate)
    except SpendLimitReached as refusal:
        if not _is_graced(ask, refusal, books, conditions):
            raise
        return refusal.standing
    if conditions.keeps_for_running:
        check_kept(ask, limits, conditions.rate)
    return None


def lease(ask: Ask, books: Books, conditions: Conditions) -> Wei:
    """What of their limits one session may hold: what it wants, but of the last no more than its share."""
    running = len(books.sessions) + (ask.session_id not in books.sessions)
    rooms = [each.in_wei(conditions.rate) // running for each in refusing(books, conditions)]
    return Wei(max(ask.needed, min([int(ask.wanted), *rooms])))


def refusing(books: Books, conditions: Conditions) -> list[Standing]:
    """The limits that refuse; with overage those on spend only warn, and credit alone refuses."""
    overage = conditions.limits.overage
    return [each for each in books.standings(conditions) if not overage or each.name == CREDIT]


def _is_graced(ask: Ask, refusal: SpendLimitReached, books: Books, conditions: Conditions) -> bool:
    """Whether a session that runs may go on for a while at a limit that was reached."""
    if not conditions.limits.grace_seconds or ask.is_new:
        return False
    since = books.reached.get(refusal.standing.name)
    if since is None or since[0] != refusal.standing.window:
        return True
    return bool(conditions.now.timestamp() < since[1] + conditions.limits.grace_seconds)


def check_sessions(ask: Ask, whose: str, books: Books, sessions_max: int | None) -> None:
    """One that was idle, and gave back what it held, comes as another."""
    running = len(books.sessions)
    if sessions_max is not None and ask.session_id not in books.sessions and running >= sessions_max:
        text = f"{whose} has {running} payment sessions of {sessions_max}"
        raise AllowanceRefusal(429, "too_many_sessions", text, SESSIONS_RETRY_SECONDS)


def check_spend(ask: Ask, whose: str, limits: Iterable[Standing], rate: Rate | None) -> None:
    """Raise SpendLimitReached, or AllowanceRefusal while what sessions hold may still make room."""
    for standing in limits:
        needed = _amount(ask.needed, standing, rate)
        if standing.spent + needed > standing.limit:
            text = (
                f"{standing.reason_text}: {shown(standing.spent, standing)} of"
                f" {shown(standing.limit, standing)} spent by {whose}, {shown(needed, standing)} needed"
            )
            raise SpendLimitReached(standing, text)
    for standing in limits:
        needed = _amount(ask.needed, standing, rate)
        if needed > standing.remaining:
            held = f"{shown(standing.held, standing)} are held by running sessions of {whose}"
            left = shown(standing.remaining, standing)
            text = f"{held}, {left} are left, {shown(needed, standing)} needed"
            raise AllowanceRefusal(429, "allowance_held", text, RETRY_AFTER_SECONDS)


def check_kept(ask: Ask, limits: Iterable[Standing], rate: Rate | None) -> None:
    """Keep the last of a limit for sessions that run: a new one waits, or starts when they end."""
    for standing in limits:
        kept = min(standing.held, standing.limit // KEPT_FOR_RUNNING)
        if ask.is_new and _amount(ask.needed, standing, rate) + kept > standing.remaining:
            left = shown(standing.remaining, standing)
            text = f"{left} are left, and kept for sessions that run"
            raise AllowanceRefusal(429, "budget_short", text, RETRY_AFTER_SECONDS)


def to_warn_of(limits: Iterable[Standing], warned: Mapping[str, Sequence[int]]) -> list[tuple[Standing, int]]:
    """The limits that have come nearer than was told in their window, and the percentage.

    What was told stands until the limit is clearly further off again, as when it was raised.
    """
    found = []
    for standing in limits:
        window, told = warned.get(standing.name, (0, 0))
        still = window == standing.window and _is_at(standing, told - REARMED_BELOW)
        level = next((each for each in WARNED_AT if _is_at(standing, each)), 0)
        if level > (told if still else 0):
            found.append((standing, level))
    return found


def _is_at(standing: Standing, percent: int) -> bool:
    """Of credit it is what was granted that is used up, not only what may be owed."""
    used, most = standing.spent + standing.drawn, standing.limit + standing.drawn
    return used * 100 >= percent * most


def next_turn(limits: Iterable[Standing], expiry: int | None) -> datetime | None:
    """When leases have to be asked for anew: a window turns, or credit expires."""
    turns = [standing.resets_at for standing in limits if standing.resets_at is not None]
    if expiry is not None:
        turns.append(datetime.fromtimestamp(expiry, UTC))
    return min(turns, default=None)


def shown(amount: int, standing: Standing) -> str:
    return f"{micro_usd(WorthOf(amount))} micro-USD" if standing.in_usd else f"{amount} wei"


def _amount(amount: Wei, standing: Standing, rate: Rate | None) -> int:
    if not standing.in_usd:
        return amount
    if rate is None:
        raise RateUnknown
    return rate.worth(amount)
