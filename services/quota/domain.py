"""Budgets and pools: who may still spend what, and what all of it may come to.

A Budget leases allowances to an account's payment sessions; what is leased is held, what was paid
is spent, and held + spent never pass the limit. A Pool does the same for a payer's deposit.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from eventsourcing.domain import Aggregate, event

from shared.money import Wei

RETRY_AFTER_SECONDS = 5  # about when held allowances may be free


class AllowanceRefusal(Exception):  # noqa: N818 (an answer, not an error)
    """Quota may not grant; the status is what the paying client is answered (design §4.9)."""

    def __init__(self, status: int, reason: str, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.retry_after_seconds = retry_after


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


class Budget(Aggregate):
    """What one account may spend, and what it has."""

    TOPIC = "quota.budget"

    class Event(Aggregate.Event):
        TOPIC = "quota.budget.event"

    class Opened(Event, Aggregate.Created):
        TOPIC = "quota.budget_opened"
        account_id: str
        spend_limit: Wei

    class SpendLimitSet(Event):
        TOPIC = "quota.spend_limit_set"
        spend_limit: Wei

    class AllowanceGranted(Event):
        TOPIC = "quota.allowance_granted"
        session_id: str
        number: int
        amount: Wei
        key_id: str
        payer: str

    class SpendRecorded(Event):
        TOPIC = "quota.spend_recorded"
        spends: dict[str, Wei]  # by session

    class AllowanceFreed(Event):
        TOPIC = "quota.allowance_freed"
        session_id: str
        amount: Wei

    class LimitReached(Event):
        TOPIC = "quota.limit_reached"
        spend_limit: Wei

    class Suspended(Event):
        TOPIC = "quota.budget_suspended"
        reason: str

    class Resumed(Event):
        TOPIC = "quota.budget_resumed"

    class KeyRevoked(Event):
        TOPIC = "quota.key_revoked"
        key_id: str

    @staticmethod
    def create_id(account_id: str) -> UUID:
        return uuid5(NAMESPACE_URL, f"/accounts/{account_id}/budget")

    @event(Opened)
    def __init__(self, account_id: str, spend_limit: Wei, timestamp: datetime) -> None:
        self.account_id = account_id
        self.spend_limit = spend_limit
        self.spent = Wei(0)
        self.held = Wei(0)
        self.suspended = ""
        self.limit_reached = False
        self.revoked_keys: list[str] = []
        # By session: granted and spent in all, the last ask and what it got, whose key, which payer.
        self.sessions: dict[str, dict[str, Any]] = {}

    @property
    def remaining(self) -> Wei:
        return Wei(max(0, self.spend_limit - self.spent - self.held))

    def held_by(self, session_id: str) -> Wei:
        session = self.sessions.get(session_id)
        return Wei(max(0, session["granted"] - session["spent"])) if session else Wei(0)

    def granted_before(self, ask: Ask) -> Wei | None:
        """What this very ask was granted, if it was answered already."""
        session = self.sessions.get(ask.session_id)
        return Wei(session["amount"]) if session and session["number"] == ask.number else None

    def check_may_grant(self, ask: Ask) -> None:
        if self.suspended:
            raise AllowanceRefusal(403, "account_suspended", f"account is suspended: {self.suspended}")
        if ask.key_id in self.revoked_keys:
            raise AllowanceRefusal(403, "key_revoked", "the API key is revoked")
        if self.spent + ask.needed > self.spend_limit:
            text = f"spend limit reached: {self.spent} of {self.spend_limit} wei spent, {ask.needed} needed"
            raise AllowanceRefusal(402, "spend_limit_reached", text)
        if ask.needed > self.remaining:
            held = f"{self.held} wei are held by running sessions"
            text = f"{held}, {self.remaining} wei are left, {ask.needed} needed"
            raise AllowanceRefusal(429, "allowance_held", text, RETRY_AFTER_SECONDS)

    def grant(self, ask: Ask, amount: Wei, now: datetime) -> None:
        self._allowance_granted(
            session_id=ask.session_id,
            number=ask.number,
            amount=amount,
            key_id=ask.key_id,
            payer=ask.payer,
            timestamp=now,
        )

    def reach_limit(self, now: datetime) -> None:
        if not self.limit_reached:
            self._limit_reached(self.spend_limit, now)

    def set_spend_limit(self, spend_limit: Wei, now: datetime) -> None:
        if spend_limit != self.spend_limit:
            self._spend_limit_set(spend_limit, now)

    def record_spend(self, spends: dict[str, Wei], now: datetime) -> None:
        self._spend_recorded(spends, now)

    def free(self, session_id: str, now: datetime) -> Wei:
        """The session is closed: what it holds is free again. Returns how much that was."""
        amount = self.held_by(session_id)
        if session_id in self.sessions:
            self._allowance_freed(session_id, amount, now)
        return amount

    def suspend(self, reason: str, now: datetime) -> None:
        if not self.suspended:
            self._suspended(reason or "suspended", now)

    def resume(self, now: datetime) -> None:
        if self.suspended:
            self._resumed(now)

    def revoke_key(self, key_id: str, now: datetime) -> None:
        if key_id not in self.revoked_keys:
            self._key_revoked(key_id, now)

    @event(AllowanceGranted)
    def _allowance_granted(
        self, session_id: str, number: int, amount: Wei, key_id: str, payer: str, timestamp: datetime
    ) -> None:
        before = self.held_by(session_id)
        session = self.sessions.setdefault(session_id, {"granted": 0, "spent": 0})
        session["granted"] += amount
        session.update(number=number, amount=amount, key_id=key_id, payer=payer)
        self.held = Wei(self.held + self.held_by(session_id) - before)

    @event(SpendRecorded)
    def _spend_recorded(self, spends: dict[str, Wei], timestamp: datetime) -> None:
        for session_id, amount in spends.items():
            before = self.held_by(session_id)
            if session_id in self.sessions:
                self.sessions[session_id]["spent"] += amount
            self.held = Wei(self.held + self.held_by(session_id) - before)
            self.spent = Wei(self.spent + amount)

    @event(AllowanceFreed)
    def _allowance_freed(self, session_id: str, amount: Wei, timestamp: datetime) -> None:
        self.held = Wei(self.held - amount)
        del self.sessions[session_id]

    @event(LimitReached)
    def _limit_reached(self, spend_limit: Wei, timestamp: datetime) -> None:
        self.limit_reached = True

    @event(SpendLimitSet)
    def _spend_limit_set(self, spend_limit: Wei, timestamp: datetime) -> None:
        self.spend_limit = spend_limit
        self.limit_reached = False

    @event(Suspended)
    def _suspended(self, reason: str, timestamp: datetime) -> None:
        self.suspended = reason

    @event(Resumed)
    def _resumed(self, timestamp: datetime) -> None:
        self.suspended = ""

    @event(KeyRevoked)
    def _key_revoked(self, key_id: str, timestamp: datetime) -> None:
        self.revoked_keys.append(key_id)


class Pool(Aggregate):
    """A payer's deposit against what may still be drawn from it: the exposure.

    Exposure is the cost of tickets whose validity has not ended, plus allowances unspent. Cover is
    the deposit; nothing once it is being unlocked.
    """

    TOPIC = "quota.pool"

    class Event(Aggregate.Event):
        TOPIC = "quota.pool.event"

    class Opened(Event, Aggregate.Created):
        TOPIC = "quota.pool_opened"
        payer: str

    class FundsObserved(Event):
        TOPIC = "quota.funds_observed"
        deposit: Wei
        reserve: Wei
        withdraw_round: int

    class RoundChanged(Event):
        TOPIC = "quota.round_changed"
        round: int
        validity: int

    class Held(Event):
        TOPIC = "quota.pool_held"
        amount: Wei  # negative when allowances are freed

    class Spent(Event):
        TOPIC = "quota.pool_spent"
        costs: dict[str, Wei]  # by creation round, as text
        released: Wei  # of what was held

    @staticmethod
    def create_id(payer: str) -> UUID:
        return uuid5(NAMESPACE_URL, f"/payers/{payer}/pool")

    @event(Opened)
    def __init__(self, payer: str, timestamp: datetime) -> None:
        self.payer = payer
        self.deposit = Wei(0)
        self.reserve = Wei(0)
        self.withdraw_round = 0
        self.round = 0
        self.validity = 2
        self.held = Wei(0)
        self.costs: dict[str, Wei] = {}
        self.observed_at: datetime | None = None

    @property
    def cover(self) -> Wei:
        unlocking = self.withdraw_round and self.withdraw_round <= self.round + 1
        return Wei(0) if unlocking else self.deposit

    @property
    def exposure(self) -> Wei:
        return Wei(self.held + sum(self.costs.values()))

    def check_may_hold(self, amount: Wei) -> None:
        if self.observed_at is None:
            raise AllowanceRefusal(503, "pool_unknown", "Service Unavailable Error", RETRY_AFTER_SECONDS)
        if self.exposure + amount > self.cover:
            raise AllowanceRefusal(503, "pool_exhausted", "Service Unavailable Error", RETRY_AFTER_SECONDS)

    def room(self) -> Wei:
        return Wei(max(0, self.cover - self.exposure))

    def hold(self, amount: Wei, now: datetime) -> None:
        if amount:
            self._held(amount, now)

    def spend(self, costs: dict[str, Wei], released: Wei, now: datetime) -> None:
        self._spent(costs, released, now)

    def observe_funds(self, *, deposit: Wei, reserve: Wei, withdraw_round: int, now: datetime) -> None:
        self._funds_observed(deposit, reserve, withdraw_round, now)

    def change_round(self, number: int, validity: int, now: datetime) -> None:
        if (number, validity) != (self.round, self.validity):
            self._round_changed(number, validity, now)

    @event(FundsObserved)
    def _funds_observed(self, deposit: Wei, reserve: Wei, withdraw_round: int, timestamp: datetime) -> None:
        self.deposit = deposit
        self.reserve = reserve
        self.withdraw_round = withdraw_round
        self.observed_at = timestamp

    @event(RoundChanged)
    def _round_changed(self, round: int, validity: int, timestamp: datetime) -> None:  # noqa: A002
        self.round = round
        self.validity = validity
        self.costs = {made: cost for made, cost in self.costs.items() if int(made) + validity > round}

    @event(Held)
    def _held(self, amount: Wei, timestamp: datetime) -> None:
        self.held = Wei(self.held + amount)

    @event(Spent)
    def _spent(self, costs: dict[str, Wei], released: Wei, timestamp: datetime) -> None:
        self.held = Wei(self.held - released)
        for made, cost in costs.items():
            if int(made) + self.validity > self.round:
                self.costs[made] = Wei(self.costs.get(made, 0) + cost)
