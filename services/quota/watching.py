"""The use cases of key watches: what edges have seen, and what there is to know of a key."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from contracts import key_watch as contract
from services.quota.alarms import see_networks
from services.quota.application import Quota
from services.quota.domain.key_watch import KeyWatch
from services.quota.domain.limit_set import Scope
from services.quota.domain.stops import StopKind, Stops
from services.quota.domain.stops import key as stop_key
from services.quota.domain.sub_budget import SubBudget
from services.quota.work import Work

EPOCH = date(1970, 1, 1)


class Watching:
    def __init__(self, quota: Quota) -> None:
        self._quota = quota

    def report_networks(self, sightings: Sequence[contract.NetworkSighting], now: datetime) -> None:
        """Note from where keys are used; what is new is an alarm where limits say so."""
        by_key: dict[Scope, set[str]] = defaultdict(set)
        for seen in sightings:
            by_key[Scope(seen.account_id, key_id=seen.key_id)].add(seen.network)

        def decide(work: Work) -> None:
            for key, networks in by_key.items():
                see_networks(work, key, networks, now)

        watches = [KeyWatch.create_id(seen.account_id, seen.key_id) for seen in sightings]
        self._quota.decide(decide, now, scopes={Scope(key.account_id) for key in by_key}, also=watches)

    def activity(self, key: Scope, now: datetime) -> contract.KeyActivity:
        """What is known of a key; of one that was never used, nothing."""
        also = [KeyWatch.create_id(key.account_id, key.key_id or ""), Stops.create_id()]
        return self._quota.read(lambda work: _activity(work, key, now), now, scopes=[key], also=also)


def _activity(work: Work, key: Scope, now: datetime) -> contract.KeyActivity:
    watch, books = work.known_key_watch(key), work.known_sub_budget(key)
    networks = _latest_first(watch.networks) if watch else []
    recipients = _latest_first(watch.recipients) if watch else []
    return contract.KeyActivity(
        account_id=key.account_id,
        key_id=key.key_id or "",
        networks=[contract.NetworkRow(network=name, **seen) for name, seen in networks],
        recipients=[contract.RecipientRow(recipient=name, **seen) for name, seen in recipients],
        spent_this_hour_wei=books.spent_this_hour(now) if books else 0,
        highest_hours=_highest_hours(books, now) if books else [],
        alarms=[_alarm(alarm) for alarm in reversed(watch.alarms)] if watch else [],
        stop=_stop(work, key, now),
    )


def _latest_first(seen: dict[str, list[int]]) -> list[tuple[str, dict[str, Any]]]:
    rows = sorted(seen.items(), key=lambda row: row[1][1], reverse=True)
    return [
        (name, {"first_seen_at": _moment(first), "last_seen_at": _moment(last)})
        for name, (first, last) in rows
    ]


def _highest_hours(books: SubBudget, now: datetime) -> list[contract.HighestHour]:
    return [
        contract.HighestHour(day=EPOCH + timedelta(days=day), spent_wei=spent)
        for day, spent in sorted(books.highest_hours(now).items(), reverse=True)
    ]


def _alarm(alarm: dict[str, Any]) -> contract.AlarmRow:
    return contract.AlarmRow(
        at=_moment(alarm["raised"]),
        alarm=alarm["alarm"],
        value=alarm["value"],
        spent_wei=alarm["spent"],
        usual_wei=alarm["usual"],
        held=alarm["held"],
    )


def _stop(work: Work, key: Scope, now: datetime) -> contract.KeyStop | None:
    stop = work.known_stops().get(stop_key(StopKind.KEY, key.key_id or ""))
    if stop is None or (stop["expires"] is not None and stop["expires"] <= now.timestamp()):
        return None
    expires_at = _moment(stop["expires"]) if stop["expires"] is not None else None
    return contract.KeyStop(reason=stop["reason"], set_at=stop["set"], expires_at=expires_at)


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
