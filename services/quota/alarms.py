"""Alarms of keys, raised in the commit of what gave rise to them; with a stop where limits say so."""

from collections.abc import Iterable, Sequence
from datetime import datetime

import structlog

from services.quota.domain.granting import Conditions
from services.quota.domain.key_watch import Alarm, KeyWatch, Raised
from services.quota.domain.limit_set import Author, LimitSet, Scope
from services.quota.domain.stops import StopKind, Stops, TooManyStops
from services.quota.domain.stops import key as stop_key
from services.quota.domain.sub_budget import SubBudget
from services.quota.rules import entry_of_stop
from services.quota.work import Work
from shared.money import Wei

log = structlog.get_logger()

ACTOR = "quota"


def see_networks(work: Work, key: Scope, networks: Iterable[str], at: datetime) -> None:
    watch = work.key_watch(key)
    _raise_of_new(work, watch, Alarm.NETWORK, watch.see_networks(networks, at), at)


def see_recipients(work: Work, key: Scope, recipients: Iterable[str], at: datetime) -> None:
    watch = work.key_watch(key)
    _raise_of_new(work, watch, Alarm.RECIPIENT, watch.see_recipients(recipients, at), at)


def see_spend(work: Work, books: SubBudget, conditions: Conditions) -> None:
    """Once an hour: a key has spent many times what it did in any hour of the days before."""
    alarms, at, least = conditions.limits.alarms, conditions.now, work.sensitivity
    if alarms is None or alarms["spend_times"] is None or at < books.created_on + least.learning:
        return
    spent = books.spent_this_hour(at)
    usual = max(books.highest_hours(at).values(), default=Wei(0))
    if spent <= alarms["spend_times"] * max(usual, least.floor):
        return
    watch, hour = work.key_watch(books.scope), books.spending["hour"][0]
    if watch.alarmed_hour < hour:
        raised = Raised(Alarm.SPEND, spent=spent, usual=usual, hour=hour)
        _raise(work, watch, raised, at, holds=alarms["holds"])


def _raise_of_new(work: Work, watch: KeyWatch, alarm: Alarm, values: Iterable[str], at: datetime) -> None:
    if not values or watch.is_learning(at, work.sensitivity.learning):
        return
    key = Scope(watch.account_id, key_id=watch.key_id)
    work.look_up([LimitSet.create_id(*key.ids)])
    alarms = work.limits(key).alarms
    if alarms is None or not alarms[alarm.value]:
        return
    for value in values:
        if alarm in alarms["holds"] or not watch.has_raised_many(at):
            _raise(work, watch, Raised(alarm, value), at, holds=alarms["holds"])


def _raise(work: Work, watch: KeyWatch, raised: Raised, at: datetime, *, holds: Sequence[str]) -> None:
    held = raised.alarm in holds and _hold(work, watch.key_id, raised.alarm)
    watch.raise_alarm(raised, at, held=held)


def _hold(work: Work, key_id: str, alarm: Alarm) -> bool:
    """Stop the key until somebody lifts it, and tell whether it is stopped; one that is stays so."""
    work.look_up([Stops.create_id()])
    stops, name = work.stops(), stop_key(StopKind.KEY, key_id)
    known = stops.stops.get(name)
    if known is not None and known["expires"] is None:
        return True
    author = Author(ACTOR, f"alarm_{alarm}")
    try:
        stops.put(StopKind.KEY, key_id, author, expires_at=None, now=work.now)
    except TooManyStops as problem:
        log.error("key_not_held", key_id=key_id, alarm=alarm.value, problem=str(problem))
        return False
    work.effects.append(work.rules.change(dict([entry_of_stop(stops.stops[name])])))
    return True
