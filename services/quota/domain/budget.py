"""Budgets: what an account may spend, what its sessions hold, and what was spent.

What is leased to a session is held, what was paid is spent; held + spent never pass a limit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from eventsourcing.domain import Aggregate, event

from services.quota.domain import credit, leases
from services.quota.domain.budget_events import BudgetEvents
from services.quota.domain.credit import CreditGrant, GrantKind
from services.quota.domain.granting import Ask, Conditions, check, next_turn, to_warn_of
from services.quota.domain.limit_set import Author, Scope
from services.quota.domain.refusal import AWAY, RETRY_AFTER_SECONDS, AllowanceRefusal
from services.quota.domain.spending import (
    Rate,
    Standing,
    Worth,
    add_spend,
    no_spending,
    rated,
    standings,
)
from shared.money import MicroUsd, Wei


class Budget(BudgetEvents, Aggregate):
    """What one account may spend, and what it has."""

    TOPIC = "quota.budget"
    class_version = 3

    # The library looks for these two in the class itself.
    Event = BudgetEvents.Event
    Opened = BudgetEvents.Opened

    @staticmethod
    def create_id(account_id: str) -> UUID:
        return uuid5(NAMESPACE_URL, f"/accounts/{account_id}/budget")

    @event(Opened)
    def __init__(self, account_id: str, spend_limit: Wei, timestamp: datetime) -> None:
        self.account_id = account_id
        self.spend_limit = spend_limit  # by default
        self.spending = no_spending()
        self.credit = credit.no_credit()
        self.held = Wei(0)
        self.suspended = ""
        self.reached: dict[str, list[Any]] = {}  # by limit: in which window, since when, how high it was
        self.warned: dict[str, list[int]] = {}  # by limit: in which window, and at what percentage
        self.revoked_keys: list[str] = []
        self.sessions: leases.Sessions = {}
        self.ended: dict[str, int] = {}  # by session, up to which ask it gave back

    @staticmethod
    def upcast_v1_v2(state: dict[str, Any]) -> None:
        """Read snapshots from before late copies of asks were known."""
        state["ended"] = {}

    @staticmethod
    def upcast_v2_v3(state: dict[str, Any]) -> None:
        """Read snapshots from before there were other limits than one on all that is spent, in wei."""
        spending = no_spending()
        spending["all"][0] = state.pop("spent")
        state.update(
            spending=spending,
            credit=credit.no_credit(),
            warned={},
            reached={"spend_limit_wei": [0, 0.0, state["spend_limit"]]} if state.pop("limit_reached") else {},
        )

    # What it knows

    @property
    def spent(self) -> Wei:
        return Wei(self.spending["all"][0])

    def standings(self, conditions: Conditions) -> list[Standing]:
        """Each limit on spend; what is owed beyond prepaid credit as one more."""
        limits, rate, now = conditions.limits, conditions.rate, conditions.now
        found = standings(limits, self.spending, self.held, rate=rate, at=now, zone=conditions.zone)
        if limits.credit_limit_micro_usd is not None:
            held = rate.worth(self.held) if rate else Worth(0)
            found.append(credit.standing(self.credit, limits.credit_limit_micro_usd, held, now))
        return found

    def held_by(self, session_id: str) -> Wei:
        return leases.held_by(self.sessions, session_id)

    def granted_before(self, ask: Ask) -> Wei | None:
        """What this very ask was granted, if it was answered already."""
        return leases.granted_before(self.sessions, ask)

    def counting(self, session_id: str) -> list[Scope]:
        """Whose sub-budgets count what a session holds and spends."""
        session = self.sessions.get(session_id, {})
        return [
            Scope(self.account_id, **{f"{level}_id": session[f"{level}_id"]})
            for level in session.get("counted_by", ())
        ]

    def check_open(self, key_id: str | None) -> None:
        """Raise AllowanceRefusal if the account is suspended, or the key revoked."""
        if self.suspended:
            raise AllowanceRefusal(403, "account_suspended", f"account is suspended: {self.suspended}")
        if key_id in self.revoked_keys:
            raise AllowanceRefusal(403, "key_revoked", "the API key is revoked")

    def check_may_grant(self, ask: Ask, conditions: Conditions) -> Standing | None:
        """Raise AllowanceRefusal; returns the limit at which a session that runs has its grace."""
        if ask.number <= self.ended.get(ask.session_id, 0):
            # A late copy: its session has closed since, and would never use what it gets.
            raise AllowanceRefusal(503, "ask_is_over", AWAY, RETRY_AFTER_SECONDS)
        self.check_open(ask.key_id)
        return check(ask, f"account {self.account_id}", self, conditions)

    # What may be done with it

    def grant(
        self, ask: Ask, amount: Wei, now: datetime, *, ends_at: datetime | None, counted_by: Sequence[str]
    ) -> None:
        self._allowance_granted(
            session_id=ask.session_id,
            number=ask.number,
            amount=amount,
            key_id=ask.key_id,
            payer=ask.payer,
            user_id=ask.user_id,
            token_id=ask.token_id,
            ends_at=ends_at,
            counted_by=list(counted_by) or None,
            timestamp=now,
        )

    def turns_at(self, conditions: Conditions) -> datetime | None:
        expiry = credit.next_expiry(self.credit, conditions.now)
        return next_turn(self.standings(conditions), expiry)

    def reach(self, standing: Standing, now: datetime) -> None:
        """Note once that a limit was reached: of each window, and of each height of the limit."""
        if self.reached.get(standing.name, [None] * 3)[::2] != [standing.window, standing.limit]:
            self._limit_reached(Wei(standing.limit), standing.name, standing.window, now)

    def warn(self, conditions: Conditions) -> None:
        for standing, percent in to_warn_of(self.standings(conditions), self.warned):
            self._limit_neared(standing.name, percent, standing.window, conditions.now)

    def grant_credit(self, grant: CreditGrant, author: Author, now: datetime) -> None:
        """Once by its id: a repeat changes nothing. Raises CreditGrantIdTaken or TooManyCreditGrants."""
        if credit.check_may_add(self.credit, grant, now):
            self._credit_granted(**asdict(grant), actor=author.actor, reason=author.reason, timestamp=now)

    def void_credit(self, grant_id: str, author: Author, now: datetime) -> None:
        """Take back what is left of it. Raises CreditGrantNotFound."""
        if credit.is_valid(credit.find(self.credit, grant_id), now):
            self._credit_voided(grant_id, author.actor, author.reason, now)

    def record_spend(self, spends: dict[str, Wei], rate: Rate | None, zone: str, now: datetime) -> None:
        self._spend_recorded(spends, time_zone=zone, **rated(rate), timestamp=now)

    def record_recovered(self, spends: dict[str, Wei], rate: Rate | None, zone: str, now: datetime) -> None:
        self._spend_recovered(spends, time_zone=zone, **rated(rate), timestamp=now)

    def correct(
        self,
        session_id: str,
        freed: dict[str, Wei],
        spent: Wei,
        *,
        counted_at: datetime,
        rate: Rate | None,
        zone: str,
        now: datetime,
    ) -> None:
        """What payments cost takes the place of their estimates."""
        self._estimates_corrected(
            session_id, freed, spent, counted_at, time_zone=zone, **rated(rate), timestamp=now
        )

    def free(self, session_id: str, ask_number: int, now: datetime) -> Wei:
        """The session gave back what asks up to this number had brought it; returns how much.

        A grant to a later ask, made before the close was heard of, stays held.
        """
        if session_id not in self.sessions:
            return Wei(0)
        amount = leases.freed_up_to(self.sessions, session_id, ask_number)
        self._allowance_freed(session_id, amount, ask_number, now)
        return amount

    def take_back(self, scope: Scope, now: datetime) -> None:
        """Ask back what sessions of the scope hold.

        Stored also where none does, as another replica may grant right now by the limits of before:
        it then decides anew. A session token gets its limits before anybody can show it.
        """
        if scope.level != "token" or any(scope.has(session) for session in self.sessions.values()):
            self._leases_taken_back(scope.user_id, scope.key_id, scope.token_id, now)

    def suspend(self, reason: str, now: datetime) -> None:
        if not self.suspended:
            self._suspended(reason or "suspended", now)

    def resume(self, now: datetime) -> None:
        if self.suspended:
            self._resumed(now)

    def revoke_key(self, key_id: str, now: datetime) -> None:
        if key_id not in self.revoked_keys:
            self._key_revoked(key_id, now)

    # What happened

    @event(BudgetEvents.AllowanceGranted)
    def _allowance_granted(
        self,
        session_id: str,
        number: int,
        amount: Wei,
        key_id: str,
        payer: str,
        timestamp: datetime,
        user_id: str | None = None,
        token_id: str | None = None,
        ends_at: datetime | None = None,
        counted_by: list[str] | None = None,
    ) -> None:
        whose = {"key_id": key_id, "payer": payer, "user_id": user_id, "token_id": token_id}
        leased = leases.lease(
            self.sessions, session_id, number, amount, ends_at=ends_at, counted_by=counted_by, **whose
        )
        self.held = Wei(self.held + leased)

    @event(BudgetEvents.SpendRecorded)
    def _spend_recorded(
        self,
        spends: dict[str, Wei],
        time_zone: str = "UTC",
        micro_usd_per_eth: int = 0,
        rate_source: str = "",
        rate_at: datetime | None = None,
        timestamp: datetime | None = None,
    ) -> None:
        for session_id, amount in spends.items():
            self.held = Wei(self.held + leases.spend(self.sessions, session_id, amount))
        self._count(spends, time_zone, micro_usd_per_eth, timestamp)

    @event(BudgetEvents.SpendRecovered)
    def _spend_recovered(
        self,
        spends: dict[str, Wei],
        time_zone: str = "UTC",
        micro_usd_per_eth: int = 0,
        rate_source: str = "",
        rate_at: datetime | None = None,
        timestamp: datetime | None = None,
    ) -> None:
        self._count(spends, time_zone, micro_usd_per_eth, timestamp)

    @event(BudgetEvents.EstimatesCorrected)
    def _estimates_corrected(
        self,
        session_id: str,
        freed: dict[str, Wei],
        spent: Wei,
        counted_at: datetime,
        time_zone: str,
        micro_usd_per_eth: int = 0,
        rate_source: str = "",
        rate_at: datetime | None = None,
        timestamp: datetime | None = None,
    ) -> None:
        self.held = Wei(self.held + leases.take_grants(self.sessions, session_id, freed))
        self._count({session_id: spent}, time_zone, micro_usd_per_eth, counted_at)

    def _count(
        self, spends: Mapping[str, Wei], zone: str, micro_usd_per_eth: int, at: datetime | None
    ) -> None:
        assert at is not None
        amount = Wei(sum(spends.values()))
        worth = Worth(amount * micro_usd_per_eth)
        add_spend(self.spending, amount, worth, at, zone)
        credit.draw(self.credit, worth, at)

    @event(BudgetEvents.AllowanceFreed)
    def _allowance_freed(self, session_id: str, amount: Wei, ask_number: int, timestamp: datetime) -> None:
        self.held = Wei(self.held - amount)
        leases.end(self.sessions, self.ended, session_id, ask_number)

    @event(BudgetEvents.LeasesTakenBack)
    def _leases_taken_back(
        self, user_id: str | None, key_id: str | None, token_id: str | None, timestamp: datetime
    ) -> None:
        """Nothing is free yet: the signer closes the sessions."""

    @event(BudgetEvents.LimitReached)
    def _limit_reached(
        self,
        spend_limit: Wei,
        limit: str = "spend_limit_wei",
        window: int = 0,
        timestamp: datetime | None = None,
    ) -> None:
        assert timestamp is not None
        self.reached[limit] = [window, timestamp.timestamp(), spend_limit]

    @event(BudgetEvents.LimitNeared)
    def _limit_neared(self, limit: str, percent: int, window: int, timestamp: datetime) -> None:
        self.warned[limit] = [window, percent]

    @event(BudgetEvents.SpendLimitSet)
    def _spend_limit_set(self, spend_limit: Wei, timestamp: datetime) -> None:
        self.spend_limit = spend_limit
        self.reached.clear()

    @event(BudgetEvents.CreditGranted)
    def _credit_granted(
        self,
        grant_id: str,
        kind: str,
        amount: MicroUsd,
        priority: int,
        expires: int | None,
        actor: str,
        reason: str,
        timestamp: datetime,
    ) -> None:
        grant = CreditGrant(grant_id, GrantKind(kind), amount, priority, expires)
        credit.add(self.credit, grant, timestamp)

    @event(BudgetEvents.CreditVoided)
    def _credit_voided(self, grant_id: str, actor: str, reason: str, timestamp: datetime) -> None:
        self.credit["grants"][grant_id]["left"] = 0

    @event(BudgetEvents.Suspended)
    def _suspended(self, reason: str, timestamp: datetime) -> None:
        self.suspended = reason

    @event(BudgetEvents.Resumed)
    def _resumed(self, timestamp: datetime) -> None:
        self.suspended = ""

    @event(BudgetEvents.KeyRevoked)
    def _key_revoked(self, key_id: str, timestamp: datetime) -> None:
        self.revoked_keys.append(key_id)
