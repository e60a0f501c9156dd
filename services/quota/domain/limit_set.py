"""Limits that were set for an account, one of its users, a key or a session token; its plan, its clock."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import NAMESPACE_URL, UUID, uuid5

from eventsourcing.domain import Aggregate, event

from services.quota.domain.limits import Limits
from services.quota.domain.windows import check_time_zone
from shared.refusal import Refused

ACTOR = re.compile(r"[A-Za-z0-9._:-]{1,128}")
REASON = re.compile(r"[a-z0-9_]{1,64}")  # a code: free text would bring personal data into events


class BadActor(Refused):
    code = "bad_actor"


class BadReason(Refused):
    code = "bad_reason"


class LimitsChanged(Refused):
    """Somebody else was faster: what was to be replaced is not what is set any more."""

    code = "limits_changed"


type Level = Literal["account", "user", "key", "token"]


@dataclass(frozen=True, slots=True)
class Author:
    """Who changes something, and why: ids and codes, for they are kept for ever."""

    actor: str
    reason: str

    def __post_init__(self) -> None:
        if not ACTOR.fullmatch(self.actor):
            raise BadActor("actor: at most 128 characters of A-Z a-z 0-9 . _ : -")
        if not REASON.fullmatch(self.reason):
            raise BadReason("reason: a code of a-z 0-9 _, at most 64 characters, such as unpaid_invoice")


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose limits: the account's, unless one of the others says more."""

    account_id: str
    user_id: str | None = None
    key_id: str | None = None
    token_id: str | None = None  # of a session token; it belongs to the key

    def __str__(self) -> str:
        """In a sentence."""
        if self.token_id is not None:
            return f"session token {self.token_id}"
        if self.key_id is not None:
            return f"key {self.key_id}"
        return f"user {self.user_id}" if self.user_id is not None else f"account {self.account_id}"

    @property
    def ids(self) -> tuple[str, str | None, str | None, str | None]:
        return (self.account_id, self.user_id, self.key_id, self.token_id)

    def has(self, session: Mapping[str, Any]) -> bool:
        """Whether a session of the account is its user's, key's or token's; the account has all."""
        return self.level == "account" or session.get(f"{self.level}_id") == getattr(self, f"{self.level}_id")

    @property
    def level(self) -> Level:
        if self.token_id is not None:
            return "token"
        if self.key_id is not None:
            return "key"
        return "user" if self.user_id is not None else "account"

    @property
    def path(self) -> str:
        match self:
            case Scope(token_id=str(token_id)):
                return f"/accounts/{self.account_id}/tokens/{token_id}"
            case Scope(key_id=str(key_id)):
                return f"/accounts/{self.account_id}/keys/{key_id}"
            case Scope(user_id=str(user_id)):
                return f"/accounts/{self.account_id}/users/{user_id}"
        return f"/accounts/{self.account_id}"


def require_version(found: Aggregate | None, version: int | None) -> None:
    """Raise LimitsChanged if what is set has another version; 0: nothing was ever set. None: any will do."""
    now = found.version if found is not None else 0
    if version not in {None, now}:
        raise LimitsChanged(f"they were changed meanwhile: version {now} is set, not {version}")


class LimitSet(Aggregate):
    """What was set for one scope; what was not comes from the plan and the defaults."""

    TOPIC = "quota.limit_set"

    class Event(Aggregate.Event):
        TOPIC = "quota.limit_set.event"

    class Opened(Event, Aggregate.Created):
        TOPIC = "quota.limit_set_opened"
        account_id: str
        user_id: str | None
        key_id: str | None
        token_id: str | None

    class LimitsSet(Event):
        TOPIC = "quota.limits_set"
        limits: dict[str, Any]
        actor: str
        reason: str

    class PlanAssigned(Event):
        TOPIC = "quota.plan_assigned"
        plan: str | None
        actor: str
        reason: str

    class TimeZoneSet(Event):
        TOPIC = "quota.time_zone_set"
        time_zone: str
        actor: str
        reason: str

    @staticmethod
    def create_id(account_id: str, user_id: str | None, key_id: str | None, token_id: str | None) -> UUID:
        return uuid5(NAMESPACE_URL, f"{Scope(account_id, user_id, key_id, token_id).path}/limits")

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
        self.own: dict[str, Any] = {}
        self.plan: str | None = None
        self.time_zone = "UTC"

    @property
    def scope(self) -> Scope:
        return Scope(self.account_id, self.user_id, self.key_id, self.token_id)

    @property
    def limits(self) -> Limits:
        return Limits.of(self.own)

    def set_limits(self, limits: Limits, author: Author, now: datetime) -> None:
        """Replace all that were set."""
        if limits.set_ones() != self.own:
            self._limits_set(limits.set_ones(), author.actor, author.reason, now)

    def assign_plan(self, plan: str | None, author: Author, now: datetime) -> None:
        if plan != self.plan:
            self._plan_assigned(plan, author.actor, author.reason, now)

    def set_time_zone(self, time_zone: str, author: Author, now: datetime) -> None:
        """What was spent in the windows that run counts in those they become. Raises BadTimeZone."""
        check_time_zone(time_zone)
        if time_zone != self.time_zone:
            self._time_zone_set(time_zone, author.actor, author.reason, now)

    @event(LimitsSet)
    def _limits_set(self, limits: dict[str, Any], actor: str, reason: str, timestamp: datetime) -> None:
        self.own = limits

    @event(PlanAssigned)
    def _plan_assigned(self, plan: str | None, actor: str, reason: str, timestamp: datetime) -> None:
        self.plan = plan

    @event(TimeZoneSet)
    def _time_zone_set(self, time_zone: str, actor: str, reason: str, timestamp: datetime) -> None:
        self.time_zone = time_zone
