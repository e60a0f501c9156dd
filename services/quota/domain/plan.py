"""Plans: limits under a name, for all accounts that are on it."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from eventsourcing.domain import Aggregate, event

from services.quota.domain.limit_set import Author
from services.quota.domain.limits import Limits
from shared.refusal import Refused

NAME = re.compile(r"[a-z0-9-]{1,64}")
RANK_MAX = 9
UNSHED = RANK_MAX + 1  # who is on no plan


class PlanNotFound(Refused):
    code = "plan_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no plan {name}")


@dataclass(frozen=True, slots=True)
class Terms:
    """What a plan says. Of what is short, the new sessions of a lower rank go without first."""

    limits: Limits = field(default_factory=Limits)
    user_limits: Limits = field(default_factory=Limits)  # of each user
    key_limits: Limits = field(default_factory=Limits)  # of each key
    rank: int = RANK_MAX
    trial: bool = False

    @staticmethod
    def of(values: dict[str, Any]) -> "Terms":
        return Terms(
            limits=Limits.of(values["limits"]),
            user_limits=Limits.of(values["user_limits"]),
            key_limits=Limits.of(values["key_limits"]),
            rank=values["rank"],
            trial=values["trial"],
        )

    def stored(self) -> dict[str, Any]:
        return {
            "limits": self.limits.set_ones(),
            "user_limits": self.user_limits.set_ones(),
            "key_limits": self.key_limits.set_ones(),
            "rank": self.rank,
            "trial": self.trial,
        }


class Plan(Aggregate):
    """What its accounts may do, unless they have limits of their own."""

    TOPIC = "quota.plan"

    class Event(Aggregate.Event):
        TOPIC = "quota.plan.event"

    class Opened(Event, Aggregate.Created):
        TOPIC = "quota.plan_opened"
        name: str

    class TermsSet(Event):
        TOPIC = "quota.plan_set"
        name: str
        terms: dict[str, Any]
        actor: str
        reason: str

    @staticmethod
    def create_id(name: str) -> UUID:
        return uuid5(NAMESPACE_URL, f"/plans/{name}")

    @event(Opened)
    def __init__(self, name: str, timestamp: datetime) -> None:
        self.name = name
        self.stored = Terms(rank=0).stored()

    @property
    def terms(self) -> Terms:
        return Terms.of(self.stored)

    def set_terms(self, terms: Terms, author: Author, now: datetime) -> None:
        if terms.stored() != self.stored or self.version == 1:
            self._terms_set(self.name, terms.stored(), author.actor, author.reason, now)

    @event(TermsSet)
    def _terms_set(
        self, name: str, terms: dict[str, Any], actor: str, reason: str, timestamp: datetime
    ) -> None:
        self.stored = terms
