"""The use cases of emergency stops: set, lift, list, and lift those that have expired."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime

import structlog
from eventsourcing.persistence import PersistenceError

from contracts.stops import StopView, stop_entry
from services.quota.application import Quota
from services.quota.domain.limit_set import Author
from services.quota.domain.stops import StopKind, Stops
from services.quota.domain.stops import key as stop_key
from services.quota.rules import entry_of_stop, stop_view
from services.quota.work import Work
from shared.clock import Clock

LIFT_SECONDS, LIFT_MAX = 30.0, 500
EXPIRED = Author("quota", "stop_expired")

log = structlog.get_logger()


class Stopping:
    def __init__(self, quota: Quota) -> None:
        self._quota = quota

    def set_stops(
        self,
        stops: Sequence[tuple[StopKind, str]],
        author: Author,
        *,
        expires_at: datetime | None,
        now: datetime,
    ) -> list[StopView]:
        """Raises TooManyStops."""

        def decide(work: Work) -> list[StopView]:
            found = work.stops()
            for what, value in stops:
                found.put(what, value, author, expires_at=expires_at, now=now)
            set_now = {stop_key(*stop): found.stops[stop_key(*stop)] for stop in stops}
            self._publish(work, dict(map(entry_of_stop, set_now.values())))
            return [stop_view(stop) for stop in set_now.values()]

        return self._quota.decide(decide, now, also=[Stops.create_id()])

    def lift_stops(self, stops: Sequence[tuple[StopKind, str]], author: Author, now: datetime) -> None:
        def decide(work: Work) -> None:
            found = work.stops()
            for what, value in stops:
                found.lift(what, value, author, now)
            self._publish(work, {stop_entry(*stop): "" for stop in stops})

        self._quota.decide(decide, now, also=[Stops.create_id()])

    def lift_expired_stops(self, now: datetime) -> None:
        """They stop nothing any more; here they would count as stops for ever."""

        def decide(work: Work) -> None:
            expired = [
                (StopKind(stop["what"]), stop["value"])
                for stop in work.known_stops().values()
                if stop["expires"] is not None and stop["expires"] <= now.timestamp()
            ][:LIFT_MAX]
            for what, value in expired:
                work.stops().lift(what, value, EXPIRED, now)
            if expired:
                self._publish(work, {stop_entry(*stop): "" for stop in expired})

        self._quota.decide(decide, now, also=[Stops.create_id()])

    def stops(self, after: str, limit: int, now: datetime) -> list[StopView]:
        def look(work: Work) -> list[StopView]:
            found = work.known_stops()
            following = sorted(key for key in found if key > after)[:limit]
            return [stop_view(found[key]) for key in following]

        return self._quota.read(look, now, also=[Stops.create_id()])

    async def sweep(self, clock: Clock) -> None:
        """Lift for ever those that have expired."""
        while True:
            try:
                await asyncio.to_thread(self.lift_expired_stops, clock.now())
            except PersistenceError as problem:
                log.warning("expired_stops_wait", problem=repr(problem))
            await asyncio.sleep(LIFT_SECONDS)

    def _publish(self, work: Work, entries: Mapping[str, str]) -> None:
        work.effects.append(self._quota.rules.change(entries))
