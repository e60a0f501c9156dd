"""The use cases of streams: record deliveries, follow `/v1/streams`, assign, give up, forget bodies.

What waits together is one commit: events, rows, hours, and which deliveries came.
"""

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from eventsourcing.application import AggregateNotFoundError
from eventsourcing.persistence import IntegrityError, PersistenceError
from eventsourcing.utils import retry
from psycopg import Cursor
from psycopg.rows import DictRow

from services.metering.application import Metering
from services.metering.domain.known import Delivery
from services.metering.domain.stream import TIMED, HourChange, Stream, hour_changes
from services.metering.outbox import public_of
from services.metering.stream_tables import DeliveryKey, RawDelivery, StreamRow, StreamStore
from shared.clock import Clock
from shared.refusal import Refused
from shared.store import Effect

log = structlog.get_logger()

SWEEP_SECONDS = 5.0
SWEEP_PAGE = 100


class StreamNotFound(Refused):
    code = "stream_not_found"

    def __init__(self, stream_id: str) -> None:
        super().__init__(f"there is no stream {stream_id}")


@dataclass(frozen=True, slots=True)
class Arrival:
    """A delivery of an account, with the stream it is of and its body as it came."""

    account_id: str
    stream_id: str
    delivery: Delivery
    body: str = field(repr=False)
    received_at: datetime

    @property
    def key(self) -> DeliveryKey:
        return DeliveryKey(self.account_id, self.delivery.webhook_id, self.delivery.event_id)

    @property
    def raw(self) -> RawDelivery:
        return RawDelivery(*self.key, self.received_at, self.body)


# Changes a stream that was found or opened.
type Change = Callable[[Stream], None]


def decided_again[**P, Outcome](use_case: Callable[P, Outcome]) -> Callable[P, Outcome]:
    """Decide again, from the store, when another process was faster."""
    retried: Callable[P, Outcome] = retry(IntegrityError, max_attempts=5, wait=0.01)(use_case)
    return retried


class Streaming:
    """Changes one at a time: streams in the cache are shared by the handlers' threads."""

    def __init__(self, metering: Metering, store: StreamStore, *, grace: timedelta, raw_days: int) -> None:
        self._metering = metering
        self._store = store
        self._grace = grace
        self._raw_days = raw_days
        self._turn = threading.Lock()

    @decided_again
    def record(self, arrivals: Sequence[Arrival], now: datetime) -> int:
        """Record deliveries once each, for ever; returns how many are new."""
        with self._turn:
            known = self._store.known([arrival.key for arrival in arrivals])
            new = {arrival.key: arrival for arrival in reversed(arrivals) if arrival.key not in known}
            streams = self._load({(each.account_id, each.stream_id) for each in new.values()}, now)
            for place, stream in streams.items():
                stream.hear([each.delivery for each in new.values() if _place(each) == place], now)
            effects = [self._note(new)]
            if self._raw_days:
                effects.append(self._store.keep_raw([arrival.raw for arrival in new.values()]))
            if streams:
                self._save(streams.values(), effects)
            return len(new)

    @decided_again
    def follow(self, changes: Sequence[tuple[str, str, Change]], now: datetime, done: Effect) -> None:
        """Change streams (account, id, how) as another log says, and say `done` with it."""
        with self._turn:
            streams = self._load({(account_id, stream_id) for account_id, stream_id, _ in changes}, now)
            for account_id, stream_id, change in changes:
                change(streams[account_id, stream_id])
            self._save(streams.values(), [done])

    @decided_again
    def assign(
        self, account_id: str, stream_id: str, user_id: str, *, actor: str, reason: str, now: datetime
    ) -> None:
        """Say whose a stream is. Raises StreamNotFound."""
        with self._turn:
            stream = self._find(account_id, stream_id)
            if stream is None:
                raise StreamNotFound(stream_id)
            stream.assign(user_id, actor=actor, reason=reason, now=now)
            told = [public_of(each) for each in stream.pending_events]
            self._save([stream], [], self._metering.audit.record(told, now))

    async def sweep(self, clock: Clock) -> None:
        """Give up silent streams and delete old bodies, for ever."""
        while True:
            try:
                await asyncio.to_thread(self.give_up_silent, clock.now())
                await asyncio.to_thread(self._store.drop_raw, clock.now(), self._raw_days)
            except PersistenceError as problem:
                log.warning("streams_wait", problem=repr(problem))
            await asyncio.sleep(SWEEP_SECONDS)

    def give_up_silent(self, now: datetime) -> None:
        """Count those as ended that nothing was heard of for longer than the grace; a commit a page."""
        while silent := self._store.silent(now - self._grace, SWEEP_PAGE):
            given_up = self._give_up(silent, now)
            log.info("streams_given_up", streams=given_up)
            if len(silent) < SWEEP_PAGE or not given_up:
                return

    @decided_again
    def _give_up(self, silent: Sequence[tuple[str, str]], now: datetime) -> int:
        with self._turn:
            streams = self._load(set(silent), now)
            for stream in streams.values():
                stream.give_up(self._grace, now)
            changed = [stream for stream in streams.values() if stream.pending_events]
            self._save(changed, [])
            return len(changed)

    def _load(self, places: set[tuple[str, str]], now: datetime) -> dict[tuple[str, str], Stream]:
        """Each stream as the store has it now, or a new one; three queries for all that are in memory."""
        ids = {place: Stream.create_id(*place) for place in sorted(places)}
        self._metering.catch_up(ids.values())
        absent = self._metering.absent(ids.values())
        return {
            place: Stream(*place, timestamp=now)
            if unique in absent
            else self._metering.repository.get(unique)
            for place, unique in ids.items()
        }

    def _find(self, account_id: str, stream_id: str) -> Stream | None:
        unique = Stream.create_id(account_id, stream_id)
        self._metering.catch_up([unique])
        try:
            stream: Stream = self._metering.repository.get(unique)
        except AggregateNotFoundError:
            return None
        return stream

    def _save(self, streams: Iterable[Stream], effects: Sequence[Effect], *last: Effect) -> None:
        """After a failure the next use reads from the store."""
        changed = [stream for stream in streams if stream.pending_events]
        try:
            self._metering.save(*changed, effects=[*effects, self._project(changed), *last])
        except BaseException:  # an effect may raise what it likes, such as that our position has moved
            self._metering.forget(*(stream.id for stream in changed))
            raise

    def _project(self, changed: Sequence[Stream]) -> Effect:
        rows = [StreamRow.of(stream) for stream in changed]
        hours: list[tuple[str, HourChange]] = [
            (stream.account_id, change)
            for stream in changed
            for each in stream.pending_events
            if isinstance(each, TIMED)
            for change in hour_changes(each)
        ]

        def effect(cursor: Cursor[DictRow]) -> None:
            if hours:
                first_open = self._store.closings.first_open(cursor, {account_id for account_id, _ in hours})
                self._store.tables.add_hours(cursor, hours, first_open)
            self._store.tables.put_streams(cursor, rows)

        return effect

    def _note(self, new: Iterable[DeliveryKey]) -> Effect:
        keys = list(new)
        return lambda cursor: self._store.tables.add_deliveries(cursor, keys)


def _place(arrival: Arrival) -> tuple[str, str]:
    return arrival.account_id, arrival.stream_id
