"""Quota's stored events as its public ones: the only place where one becomes the other."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import Notification
from eventsourcing.utils import get_topic
from pydantic_core import from_json

from contracts import limits as contract
from contracts.credit import CreditGranted, CreditVoided
from contracts.key_watch import KeyAlarmRaised
from contracts.message import Event
from contracts.quota import AllowanceFreed, AllowanceGranted, LimitReached, SpendLimitSet
from contracts.stops import StopLifted, StopSet
from contracts.stream_starts import StreamStarted, StreamStopped
from services.quota.domain.budget import Budget
from services.quota.domain.key_watch import KeyWatch
from services.quota.domain.limit_set import LimitSet
from services.quota.domain.plan import Plan
from services.quota.domain.spending import WORTH
from services.quota.domain.stops import Stops
from services.quota.domain.streams import Streams
from services.quota.domain.sub_budget import SubBudget
from shared.store import EventSourced

# What the stored event says, and whose aggregate it is: the fields of that one's first event.
type Public = Callable[[dict[str, Any], dict[str, Any]], Event]

SCOPE = ("account_id", "user_id", "key_id", "token_id")


class QuotaOutbox:
    def __init__(self, application: EventSourced) -> None:
        self.topics = tuple(PUBLIC)
        self._recorder = application.recorder
        self._opened: dict[object, dict[str, Any]] = {}

    def to_public(self, notification: Notification) -> tuple[Event, datetime]:
        stored = from_json(notification.state)
        at = datetime.fromisoformat(stored["timestamp"])
        return PUBLIC[notification.topic](stored, self._first_event(notification)), at

    def _first_event(self, notification: Notification) -> dict[str, Any]:
        """It never changes."""
        if notification.originator_id not in self._opened:
            [opened] = self._recorder.select_events(notification.originator_id, limit=1)
            self._opened[notification.originator_id] = from_json(opened.state)
        return self._opened[notification.originator_id]


def public_of(stored: DomainEventProtocol[UUID], aggregate: object) -> Event | None:
    """What is told of a stored event; None where nothing is."""
    told = PUBLIC.get(get_topic(type(stored)))
    if told is None:
        return None
    return told(vars(stored), {name: getattr(aggregate, name, None) for name in (*SCOPE, "name")})


def amount_shown(limit: str, amount: int) -> int:
    """In the unit that the limit's name ends in; dollars are counted finer."""
    return amount // WORTH if limit.endswith("_micro_usd") else amount


def _scope(opened: dict[str, Any]) -> dict[str, Any]:
    return {name: opened.get(name) for name in SCOPE}


def _author(stored: dict[str, Any]) -> dict[str, Any]:
    return {"actor": stored["actor"], "reason": stored["reason"]}


def _moment(seconds: float | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds is not None else None


def limits_told(stored: dict[str, Any]) -> contract.Limits:
    """As a contract: the one time in them is a moment there."""
    return contract.Limits.model_validate({**stored, "expires_at": _moment(stored.get("expires_at"))})


def plan_told(terms: dict[str, Any]) -> contract.Plan:
    told = {name: limits_told(terms[name]) for name in ("limits", "user_limits", "key_limits")}
    return contract.Plan(**told, rank=terms["rank"], trial=terms["trial"])


def _granted(stored: dict[str, Any], opened: dict[str, Any]) -> Event:
    return AllowanceGranted(
        account_id=opened["account_id"],
        session_id=stored["session_id"],
        number=stored["number"],
        amount=stored["amount"],
    )


def _freed(stored: dict[str, Any], opened: dict[str, Any]) -> Event:
    session_id, amount = stored["session_id"], stored["amount"]
    return AllowanceFreed(account_id=opened["account_id"], session_id=session_id, amount=amount)


def _reached(stored: dict[str, Any], opened: dict[str, Any]) -> Event:
    limit = stored.get("limit", "spend_limit_wei")
    amount = stored["spend_limit"] if "spend_limit" in stored else stored["amount"]
    return LimitReached(**_scope(opened), limit=limit, spend_limit=amount_shown(limit, amount))


def _neared(stored: dict[str, Any], opened: dict[str, Any]) -> Event:
    return contract.BudgetLow(**_scope(opened), limit=stored["limit"], percent=stored["percent"])


def _spend_limit_set(stored: dict[str, Any], opened: dict[str, Any]) -> Event:
    return SpendLimitSet(account_id=opened["account_id"], spend_limit=stored["spend_limit"])


def _limits_set(stored: dict[str, Any], opened: dict[str, Any]) -> Event:
    return contract.LimitsSet(**_scope(opened), limits=limits_told(stored["limits"]), **_author(stored))


def _plan_assigned(stored: dict[str, Any], opened: dict[str, Any]) -> Event:
    return contract.PlanAssigned(account_id=opened["account_id"], plan=stored["plan"], **_author(stored))


def _time_zone_set(stored: dict[str, Any], opened: dict[str, Any]) -> Event:
    return contract.TimeZoneSet(
        account_id=opened["account_id"], time_zone=stored["time_zone"], **_author(stored)
    )


def _plan_set(stored: dict[str, Any], opened: dict[str, Any]) -> Event:
    return contract.PlanSet(name=opened["name"], plan=plan_told(stored["terms"]), **_author(stored))


def _credit_granted(stored: dict[str, Any], opened: dict[str, Any]) -> Event:
    return CreditGranted(
        account_id=opened["account_id"],
        grant_id=stored["grant_id"],
        credit=stored["kind"],
        amount_micro_usd=stored["amount"],
        priority=stored["priority"],
        expires_at=_moment(stored["expires"]),
        **_author(stored),
    )


def _credit_voided(stored: dict[str, Any], opened: dict[str, Any]) -> Event:
    return CreditVoided(account_id=opened["account_id"], grant_id=stored["grant_id"], **_author(stored))


def _stop_set(stored: dict[str, Any], _: dict[str, Any]) -> Event:
    expires_at = stored["expires_at"]
    return StopSet(what=stored["what"], value=stored["value"], expires_at=expires_at, **_author(stored))


def _stop_lifted(stored: dict[str, Any], _: dict[str, Any]) -> Event:
    return StopLifted(what=stored["what"], value=stored["value"], **_author(stored))


def _key_alarm_raised(stored: dict[str, Any], opened: dict[str, Any]) -> Event:
    return KeyAlarmRaised(
        account_id=opened["account_id"],
        key_id=opened["key_id"],
        alarm=stored["alarm"],
        value=stored["value"],
        spent_wei=stored["spent"],
        usual_wei=stored["usual"],
        held=stored["held"],
    )


def _stream_started(stored: dict[str, Any], opened: dict[str, Any]) -> Event:
    told = {name: stored[name] for name in ("stream_id", "user_id", "key_id", "app", "job_type")}
    return StreamStarted(account_id=opened["account_id"], **told)


def _stream_stopped(stored: dict[str, Any], opened: dict[str, Any]) -> Event:
    return StreamStopped(
        account_id=opened["account_id"],
        stream_id=stored["stream_id"],
        because=stored["because"],
        alive_at=stored.get("alive_at"),
    )


PUBLIC: dict[str, Public] = {
    Budget.AllowanceGranted.TOPIC: _granted,
    Budget.AllowanceFreed.TOPIC: _freed,
    Budget.LimitReached.TOPIC: _reached,
    Budget.LimitNeared.TOPIC: _neared,
    Budget.SpendLimitSet.TOPIC: _spend_limit_set,
    Budget.CreditGranted.TOPIC: _credit_granted,
    Budget.CreditVoided.TOPIC: _credit_voided,
    SubBudget.LimitReached.TOPIC: _reached,
    SubBudget.LimitNeared.TOPIC: _neared,
    LimitSet.LimitsSet.TOPIC: _limits_set,
    LimitSet.PlanAssigned.TOPIC: _plan_assigned,
    LimitSet.TimeZoneSet.TOPIC: _time_zone_set,
    Plan.TermsSet.TOPIC: _plan_set,
    Stops.StopSet.TOPIC: _stop_set,
    Stops.StopLifted.TOPIC: _stop_lifted,
    Streams.Begun.TOPIC: _stream_started,
    Streams.Ended.TOPIC: _stream_stopped,
    KeyWatch.AlarmRaised.TOPIC: _key_alarm_raised,
}
