"""What one user, key or session token of an account may spend of the account's budget, and has.

There is one only for whom a limit on spend or sessions holds: what was spent counts since then.
"""

from datetime import datetime
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from eventsourcing.domain import Aggregate, event

from services.quota.domain.granting import Ask, Conditions, check, next_turn, to_warn_of
from services.quota.domain.limit_set import Scope
from services.quota.domain.spending import (
    Rate,
    Standing,
    Worth,
    add_spend,
    no_spending,
    spent_in,
    standings,
)
from shared.money import Wei

PEAK_DAYS = 7  # before today
DAY_SECONDS = 86_400


class SubBudget(Aggregate):
    TOPIC = "quota.sub_budget"
    class_version = 2

    class Event(Aggregate.Event):
        TOPIC = "quota.sub_budget.event"

    class Opened(Event, Aggregate.Created):
        TOPIC = "quota.sub_budget_opened"
        account_id: str
        user_id: str | None
        key_id: str | None
        token_id: str | None

    class Held(Event):
        TOPIC = "quota.sub_budget_held"
        session_id: str
        amount: Wei  # by the session in all

    class Spent(Event):
        """`held`: what each session holds afterwards. The rate is in the account's own event."""

        TOPIC = "quota.sub_budget_spent"
        spends: dict[str, Wei]  # by session
        held: dict[str, Wei]
        time_zone: str
        micro_usd_per_eth: int

    class LimitReached(Event):
        TOPIC = "quota.sub_budget_limit_reached"
        limit: str
        amount: int
        window: int

    class LimitNeared(Event):
        TOPIC = "quota.sub_budget_limit_neared"
        limit: str
        percent: int
        window: int

    @staticmethod
    def create_id(account_id: str, user_id: str | None, key_id: str | None, token_id: str | None) -> UUID:
        return uuid5(NAMESPACE_URL, f"{Scope(account_id, user_id, key_id, token_id).path}/budget")

    @event(Opened)
    def __init__(
        self,
        account_id: str,
        user_id: str | None,
        key_id: str | None,
        token_id: str | None,
        timestamp: datetime,
    ) -> None:
        self.account_id = account_id
        self.user_id = user_id
        self.key_id = key_id
        self.token_id = token_id
        self.spending = no_spending()
        self.sessions: dict[str, int] = {}  # what each holds
        self.reached: dict[str, list[Any]] = {}  # by limit: in which window, since when, how high it was
        self.warned: dict[str, list[int]] = {}  # by limit: in which window, and at what percentage
        self.peaks: dict[str, Wei] = {}  # by UTC day since 1970: the highest hour that is over

    @staticmethod
    def upcast_v1_v2(state: dict[str, Any]) -> None:
        """Read snapshots from before highest hours were known."""
        state["peaks"] = {}

    @property
    def scope(self) -> Scope:
        return Scope(self.account_id, self.user_id, self.key_id, self.token_id)

    @property
    def held(self) -> Wei:
        return Wei(sum(self.sessions.values()))

    def standings(self, conditions: Conditions) -> list[Standing]:
        return standings(
            conditions.limits,
            self.spending,
            Wei(self.held + conditions.brought),
            rate=conditions.rate,
            at=conditions.now,
            zone=conditions.zone,
        )

    def check_may_grant(self, ask: Ask, conditions: Conditions) -> Standing | None:
        """Raise AllowanceRefusal; returns the limit at which a session that runs has its grace."""
        return check(ask, str(self.scope), self, conditions)

    def spent_this_hour(self, at: datetime) -> Wei:
        return spent_in(self.spending, "hour", at)[0]

    def highest_hours(self, at: datetime) -> dict[int, Wei]:
        """The most that was spent in one hour, by UTC day since 1970; of today and the days before it.

        The hour that a moment lies in is in none of them.
        """
        found = {int(day): Wei(peak) for day, peak in _latest(self.peaks, at).items()}
        start, spent, _ = self.spending["hour"]
        if spent and not self.spent_this_hour(at) and _day(start) in _days(at):
            found[_day(start)] = max(found.get(_day(start), Wei(0)), Wei(spent))
        return found

    def turns_at(self, conditions: Conditions) -> datetime | None:
        return next_turn(self.standings(conditions), None)

    def hold(self, session_id: str, amount: Wei, now: datetime) -> None:
        """The session holds so much now; nothing: it is over."""
        if self.sessions.get(session_id) != (amount or None):  # one that has spent all of it is there yet
            self._held(session_id, amount, now)

    def record_spend(
        self,
        spends: dict[str, Wei],
        held: dict[str, Wei],
        *,
        zone: str,
        rate: Rate | None,
        now: datetime,
    ) -> None:
        """What sessions hold after it, the account's budget says."""
        known = {session_id: left for session_id, left in held.items() if session_id in self.sessions}
        self._spent(spends, known, zone, rate.micro_usd_per_eth if rate else 0, now)

    def reach(self, standing: Standing, now: datetime) -> None:
        """Note once that a limit was reached: of each window, and of each height of the limit."""
        if self.reached.get(standing.name, [None] * 3)[::2] != [standing.window, standing.limit]:
            self._limit_reached(standing.name, standing.limit, standing.window, now)

    def warn(self, conditions: Conditions) -> None:
        for standing, percent in to_warn_of(self.standings(conditions), self.warned):
            self._limit_neared(standing.name, percent, standing.window, conditions.now)

    @event(Held)
    def _held(self, session_id: str, amount: Wei, timestamp: datetime) -> None:
        if amount:
            self.sessions[session_id] = amount
        else:
            self.sessions.pop(session_id, None)

    @event(Spent)
    def _spent(
        self,
        spends: dict[str, Wei],
        held: dict[str, Wei],
        time_zone: str,
        micro_usd_per_eth: int,
        timestamp: datetime,
    ) -> None:
        amount = Wei(sum(spends.values()))
        start, spent, _ = self.spending["hour"]
        add_spend(self.spending, amount, Worth(amount * micro_usd_per_eth), timestamp, time_zone)
        if spent and self.spending["hour"][0] != start:
            day = str(_day(start))
            self.peaks[day] = max(self.peaks.get(day, Wei(0)), Wei(spent))
            self.peaks = _latest(self.peaks, timestamp)
        self.sessions.update(held)

    @event(LimitReached)
    def _limit_reached(self, limit: str, amount: int, window: int, timestamp: datetime) -> None:
        self.reached[limit] = [window, timestamp.timestamp(), amount]

    @event(LimitNeared)
    def _limit_neared(self, limit: str, percent: int, window: int, timestamp: datetime) -> None:
        self.warned[limit] = [window, percent]


def _latest(peaks: dict[str, Wei], at: datetime) -> dict[str, Wei]:
    return {day: peak for day, peak in peaks.items() if int(day) in _days(at)}


def _days(at: datetime) -> range:
    """Today and the days before it that tell what is usual."""
    today = _day(at.timestamp())
    return range(today - PEAK_DAYS, today + 1)


def _day(seconds: float) -> int:
    return int(seconds) // DAY_SECONDS
