"""Emergency stops: whose payments are not signed now, whatever their limits."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from eventsourcing.domain import Aggregate, event

from services.quota.domain.limit_set import Author
from shared.refusal import Refused

STOPS_MAX = 10_000


class StopKind(StrEnum):
    EVERYTHING = "everything"
    ACCOUNT = "account"
    USER = "user"  # value: account:user
    KEY = "key"
    JOB_TYPE = "job_type"
    APP = "app"
    RECIPIENT = "recipient"
    ORCHESTRATOR_URL = "orchestrator_url"
    PAYER = "payer"


class TooManyStops(Refused):
    code = "too_many_stops"

    def __init__(self) -> None:
        super().__init__(f"there are {STOPS_MAX} stops already")


class Stops(Aggregate):
    """All of them: they are few, and each signer has all in memory."""

    TOPIC = "quota.stops"

    class Event(Aggregate.Event):
        TOPIC = "quota.stops.event"

    class Opened(Event, Aggregate.Created):
        TOPIC = "quota.stops_opened"

    class StopSet(Event):
        TOPIC = "quota.stop_set"
        what: str
        value: str
        reason: str
        actor: str
        expires_at: datetime | None

    class StopLifted(Event):
        TOPIC = "quota.stop_lifted"
        what: str
        value: str
        reason: str
        actor: str

    @staticmethod
    def create_id() -> UUID:
        return uuid5(NAMESPACE_URL, "/stops")

    @event(Opened)
    def __init__(self, timestamp: datetime) -> None:
        self.stops: dict[str, dict[str, Any]] = {}  # by kind and value

    def put(
        self,
        what: StopKind,
        value: str,
        author: Author,
        *,
        expires_at: datetime | None,
        now: datetime,
    ) -> None:
        """Stop; a repeat with other words replaces them."""
        known = self.stops.get(key(what, value))
        if known is None and len(self.stops) >= STOPS_MAX:
            raise TooManyStops
        wanted = {"reason": author.reason, "actor": author.actor, "expires": _seconds(expires_at)}
        if known is None or {name: known[name] for name in wanted} != wanted:
            self._stop_set(what.value, value, author.reason, author.actor, expires_at, now)

    def lift(self, what: StopKind, value: str, author: Author, now: datetime) -> None:
        if key(what, value) in self.stops:
            self._stop_lifted(what.value, value, author.reason, author.actor, now)

    @event(StopSet)
    def _stop_set(
        self,
        what: str,
        value: str,
        reason: str,
        actor: str,
        expires_at: datetime | None,
        timestamp: datetime,
    ) -> None:
        self.stops[key(what, value)] = {
            "what": what,
            "value": value,
            "reason": reason,
            "actor": actor,
            "expires": _seconds(expires_at),
            "set": timestamp.isoformat(),
        }

    @event(StopLifted)
    def _stop_lifted(self, what: str, value: str, reason: str, actor: str, timestamp: datetime) -> None:
        self.stops.pop(key(what, value), None)


def key(what: str, value: str) -> str:
    return f"{what}:{value}"


def _seconds(at: datetime | None) -> float | None:
    return at.timestamp() if at is not None else None
