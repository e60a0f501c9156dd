"""Streams: the time they ran, and whose it is, told by Livepeer Studio and by `/v1/streams`.

Each event carries what was heard and the hours that changed with it, so that whoever sums only adds.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import NAMESPACE_URL, UUID, uuid5

from eventsourcing.domain import Aggregate, event

from services.metering.domain.known import Delivery, Known
from services.metering.domain.runs import HOUR_MS
from services.metering.domain.usage import EPOCH

MILLISECOND = timedelta(milliseconds=1)


class HourChange(NamedTuple):
    """Milliseconds that an hour (hours since 1970) gets or loses; `late_ms` are those it got long after."""

    user_id: str
    app: str
    hour: int
    ms: int
    late_ms: int


class Stream(Aggregate):
    """One media stream of one account."""

    TOPIC = "metering.stream"

    class Event(Aggregate.Event):
        TOPIC = "metering.stream.event"

    class Opened(Event, Aggregate.Created):
        TOPIC = "metering.stream_opened"
        account_id: str
        stream_id: str

    class Heard(Event):
        TOPIC = "metering.stream_heard"
        deliveries: Sequence[Delivery]
        hours: Sequence[HourChange]

    class Begun(Event):
        TOPIC = "metering.stream_begun"
        place: str  # in quota's log
        at: int
        user_id: str
        app: str
        hours: Sequence[HourChange]

    class Ended(Event):
        TOPIC = "metering.stream_ended"
        place: str
        at: int
        hours: Sequence[HourChange]
        because: str = ""

    class Closed(Event):
        """The last run is over, as far as is known now; a late fact about it tells it anew."""

        TOPIC = "metering.stream_closed"
        account_id: str
        stream_id: str
        user_id: str
        app: str
        began: int
        ended: int
        because: str

    class GivenUp(Event):
        TOPIC = "metering.stream_given_up"
        upto: int  # its last sign of life

    class Assigned(Event):
        TOPIC = "metering.stream_assigned"
        account_id: str
        stream_id: str
        user_id: str
        actor: str
        reason: str
        hours: Sequence[HourChange]

    @staticmethod
    def create_id(account_id: str, stream_id: str) -> UUID:
        return uuid5(NAMESPACE_URL, f"/accounts/{account_id}/metered-streams/{stream_id}")

    @event(Opened)
    def __init__(self, account_id: str, stream_id: str, timestamp: datetime) -> None:
        self.account_id = account_id
        self.stream_id = stream_id
        self.known = Known()
        self.closed_as: tuple[int, int, str] | None = None  # began, ended, because

    def hear(self, deliveries: Sequence[Delivery], now: datetime) -> None:
        """Learn what deliveries say that came for the first time."""
        after = self.known.copy()
        for delivery in deliveries:
            after.hear(delivery)
        self._heard(deliveries, changes(self.known, after, now), timestamp=now)
        self._close_if_over(now)

    def begin(self, place: str, *, at: datetime, user_id: str, app: str, now: datetime) -> None:
        after, began = self.known.copy(), milliseconds(at)
        after.begin(place, began, user_id, app)
        self._begun(place, began, user_id, app, changes(self.known, after, now), timestamp=now)
        self._close_if_over(now)

    def end(self, place: str, *, at: datetime, because: str, now: datetime) -> None:
        after, ended = self.known.copy(), milliseconds(at)
        after.end(place, ended, because)
        self._ended(place, ended, changes(self.known, after, now), because=because, timestamp=now)
        self._close_if_over(now)

    def give_up(self, grace: timedelta, now: datetime) -> None:
        """Count it as ended if nothing was heard of it for longer than `grace`."""
        alive = self.known.alive
        if alive is not None and alive + grace // MILLISECOND < milliseconds(now):
            self._given_up(alive, timestamp=now)
            self._close_if_over(now)

    def _close_if_over(self, now: datetime) -> None:
        """Tell once that the last run is over, and again if it ended otherwise than was told."""
        found = self.known.last_run
        if found is None or found[0].state == "running":
            return
        run, because = found
        if (run.began, run.ended, because) != self.closed_as:
            known = self.known
            self._closed(
                self.account_id,
                self.stream_id,
                known.user_id,
                known.app,
                run.began,
                run.ended,
                because,
                timestamp=now,
            )

    def assign(self, user_id: str, *, actor: str, reason: str, now: datetime) -> None:
        """Say whose it is, whatever was told; its time moves to that user, in the hours it is in."""
        if self.known.user_from == "assigned" and self.known.user_id == user_id:
            return
        after = self.known.copy()
        after.assign(user_id)
        hours = changes(self.known, after, now)
        self._assigned(self.account_id, self.stream_id, user_id, actor, reason, hours, timestamp=now)

    @event(Heard)
    def _heard(
        self, deliveries: Sequence[Delivery], hours: Sequence[HourChange], timestamp: datetime
    ) -> None:
        for delivery in deliveries:
            self.known.hear(Delivery(*delivery))

    @event(Begun)
    def _begun(
        self,
        place: str,
        at: int,
        user_id: str,
        app: str,
        hours: Sequence[HourChange],
        timestamp: datetime,
    ) -> None:
        self.known.begin(place, at, user_id, app)

    @event(Ended)
    def _ended(
        self, place: str, at: int, hours: Sequence[HourChange], timestamp: datetime, because: str = ""
    ) -> None:
        self.known.end(place, at, because)

    @event(Closed)
    def _closed(
        self,
        account_id: str,
        stream_id: str,
        user_id: str,
        app: str,
        began: int,
        ended: int,
        because: str,
        timestamp: datetime,
    ) -> None:
        self.closed_as = began, ended, because

    @event(GivenUp)
    def _given_up(self, upto: int, timestamp: datetime) -> None:
        self.known.give_up(upto)

    @event(Assigned)
    def _assigned(
        self,
        account_id: str,
        stream_id: str,
        user_id: str,
        actor: str,
        reason: str,
        hours: Sequence[HourChange],
        timestamp: datetime,
    ) -> None:
        self.known.assign(user_id)


type Timed = Stream.Heard | Stream.Begun | Stream.Ended | Stream.Assigned
TIMED: tuple[type[Timed], ...] = (Stream.Heard, Stream.Begun, Stream.Ended, Stream.Assigned)


def changes(before: Known, after: Known, now: datetime) -> list[HourChange]:
    """What hours get or lose; `late` is what an hour gets that was over a whole hour before."""
    gained = _by_user(after)
    for key, ms in _by_user(before).items():
        gained[key] = gained.get(key, 0) - ms
    late_before = milliseconds(now) // HOUR_MS - 1
    return [
        HourChange(user_id, app, hour, ms, ms if hour < late_before else 0)
        for (user_id, app, hour), ms in sorted(gained.items())
        if ms
    ]


def hour_changes(event: Timed) -> Iterable[HourChange]:
    """Those of an event, which may have been read from JSON."""
    return (HourChange(*change) for change in event.hours)


def milliseconds(at: datetime) -> int:
    return (at - EPOCH) // MILLISECOND


def moment_of(ms: int) -> datetime:
    return EPOCH + ms * MILLISECOND


def _by_user(known: Known) -> dict[tuple[str, str, int], int]:
    return {(known.user_id, known.app, hour): ms for hour, ms in known.hours().items()}
