"""Budgets: what an account may spend, what its sessions hold, and what was spent.

What is leased to a session is held, what was paid is spent; held + spent never pass the limit.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from eventsourcing.domain import Aggregate, event

from services.quota.domain.refusal import RETRY_AFTER_SECONDS, AllowanceRefusal
from shared.money import Wei

GRANTS_KEPT = 8  # of a session; older ones are closed or spent
ENDED_KEPT = 1_000  # sessions that gave back what they held: more than copies of asks are late by


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
    class_version = 2

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

    class SpendRecovered(Event):
        """Tickets that a restore had lost from the signer's log: spent, and held by no session."""

        TOPIC = "quota.spend_recovered"
        spends: dict[str, Wei]  # by session

    class AllowanceFreed(Event):
        TOPIC = "quota.allowance_freed"
        session_id: str
        amount: Wei
        ask_number: int  # grants up to it are given back, later ones stay

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
        # By session: granted and spent since it was closed last, the last ask, the last grants by
        # the number of their ask, whose key, which payer.
        self.sessions: dict[str, dict[str, Any]] = {}
        self.ended: dict[str, int] = {}  # by session, up to which ask it gave back

    @staticmethod
    def upcast_v1_v2(state: dict[str, Any]) -> None:
        """Read snapshots from before late copies of asks were known."""
        state["ended"] = {}

    @property
    def remaining(self) -> Wei:
        return Wei(max(0, self.spend_limit - self.spent - self.held))

    def held_by(self, session_id: str) -> Wei:
        session = self.sessions.get(session_id)
        return Wei(max(0, session["granted"] - session["spent"])) if session else Wei(0)

    def granted_before(self, ask: Ask) -> Wei | None:
        """What this very ask was granted, if it was answered already."""
        session = self.sessions.get(ask.session_id)
        grants = session["grants"] if session else {}
        return Wei(grants[str(ask.number)]) if str(ask.number) in grants else None

    def check_may_grant(self, ask: Ask) -> None:
        if ask.number <= self.ended.get(ask.session_id, 0):
            # A late copy: its session has closed since, and would never use what it gets.
            raise AllowanceRefusal(503, "ask_is_over", "Service Unavailable Error", RETRY_AFTER_SECONDS)
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

    def record_recovered(self, spends: dict[str, Wei], now: datetime) -> None:
        self._spend_recovered(spends, now)

    def free(self, session_id: str, ask_number: int, now: datetime) -> Wei:
        """The session gave back what asks up to this number had brought it; returns how much.

        A grant to a later ask, made before the close was heard of, stays held.
        """
        session = self.sessions.get(session_id)
        if session is None:
            return Wei(0)
        amount = Wei(self.held_by(session_id) - _granted_after(session, ask_number))
        self._allowance_freed(session_id, amount, ask_number, now)
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
        session = self.sessions.setdefault(session_id, {"granted": 0, "spent": 0, "grants": {}})
        session["granted"] += amount
        session.update(number=number, key_id=key_id, payer=payer)
        session["grants"][str(number)] = amount
        if len(session["grants"]) > GRANTS_KEPT:
            del session["grants"][next(iter(session["grants"]))]
        self.held = Wei(self.held + self.held_by(session_id) - before)

    @event(SpendRecorded)
    def _spend_recorded(self, spends: dict[str, Wei], timestamp: datetime) -> None:
        for session_id, amount in spends.items():
            before = self.held_by(session_id)
            if session_id in self.sessions:
                self.sessions[session_id]["spent"] += amount
            self.held = Wei(self.held + self.held_by(session_id) - before)
            self.spent = Wei(self.spent + amount)

    @event(SpendRecovered)
    def _spend_recovered(self, spends: dict[str, Wei], timestamp: datetime) -> None:
        self.spent = Wei(self.spent + sum(spends.values()))

    @event(AllowanceFreed)
    def _allowance_freed(self, session_id: str, amount: Wei, ask_number: int, timestamp: datetime) -> None:
        self.held = Wei(self.held - amount)
        self.ended.pop(session_id, None)
        self.ended[session_id] = ask_number
        if len(self.ended) > ENDED_KEPT:
            del self.ended[next(iter(self.ended))]
        session = self.sessions[session_id]
        later = _granted_after(session, ask_number)
        if later:
            session.update(granted=later, spent=0)
        else:
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


def _granted_after(session: dict[str, Any], ask_number: int) -> int:
    return sum(amount for number, amount in session["grants"].items() if int(number) > ask_number)
