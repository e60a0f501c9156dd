"""The log as outsiders read it: the events of all publishers as one sequence, and how far one got.

Within one service the order is that of its log, between services that of time as far as the pages
at hand tell. How far a reader got is a place in each log; as text it is a cursor.
"""

import binascii
import heapq
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from importlib import import_module
from itertools import groupby
from types import MappingProxyType
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from contracts.message import Event, LogEntry, LogPage, Message
from contracts.streams import PUBLISHERS

# All that have events, but for this one.
MODULES = tuple(
    import_module(f"contracts.{name}")
    for name in (
        "accounts",
        "credit",
        "deposit_watcher",
        "hooks",
        "key_watch",
        "limits",
        "metered_streams",
        "metering",
        "meters",
        "quota",
        "signed_tickets",
        "signer",
        "stops",
        "stream_starts",
        "usage_events",
    )
)
# By the name that `type` says.
EVENTS: Mapping[str, type[Event]] = MappingProxyType(
    {
        name: model
        for module in MODULES
        for name, model in sorted(vars(module).items())
        if isinstance(model, type) and issubclass(model, Event) and "subject" in vars(model)
    }
)
CURSOR_CHARACTERS_MAX = 500
NAMES_MAX = 1_000
POSITION_MAX = 2**62
CORRELATED_BY = ("session_id", "stream_id")


class Place(NamedTuple):
    """The last entry of one log that was read; position 0: none yet."""

    epoch: int
    position: int


# By service. A log without a place is read from its beginning.
type Cursor = Mapping[str, Place]

PLACES: TypeAdapter[dict[str, Place]] = TypeAdapter(dict[str, Place])


class PublicEvent(Message):
    """One entry of a service's log, for whoever reads all logs as one.

    `id` is the entry's `Nats-Msg-Id`, `<service>:<epoch>:<position>`; `data` is the event as the
    contract called `type` has it. `correlation` is the payment session or media stream the event is
    a step of, where it names one. `causation` is the id of the entry it follows from, where the
    event says so: the last one that a UsageRecorded covers, the lost one that a recovered event
    tells again. No field is filled by guessing.
    """

    id: str
    type: str
    version: int
    account_id: str | None
    at: datetime
    service: str
    position: int
    epoch: int
    correlation: str | None
    causation: str | None
    data: dict[str, Any]


class LogPlace(Message):
    """Where a log stands and where its reader was, whose epoch ended after `began_after`."""

    service: str
    epoch: int
    began_after: int
    head: int
    read_epoch: int
    read_position: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events a reader wants to see; None: all of them."""

    types: frozenset[str] | None = None
    account_id: str | None = None

    def services(self) -> tuple[str, ...]:
        """Whose logs can hold such events."""
        found = {service_of(EVENTS[name]) for name in EVENTS if self._may_be(name)}
        return tuple(service for service in PUBLISHERS if service in found)

    def fits(self, entry: LogEntry) -> bool:
        return (self.types is None or type_of(entry) in self.types) and (
            self.account_id is None or entry.event.get("account_id") == self.account_id
        )

    def _may_be(self, name: str) -> bool:
        return (self.types is None or name in self.types) and (
            self.account_id is None or concerns_an_account(name)
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """What was found, and how far that is; `at_end`: there was nothing more of any log."""

    events: Sequence[PublicEvent]
    cursor: Cursor
    at_end: bool


def service_of(event: type[Event]) -> str:
    return event.subject.split(".")[1]


def concerns_an_account(name: str) -> bool:
    return "account_id" in EVENTS[name].model_fields


def type_of(entry: LogEntry) -> str:
    return _named(entry.subject)


@lru_cache(maxsize=NAMES_MAX)
def _named(subject: str) -> str:
    """`evt.signer.payment_signed.v1` is of the type PaymentSigned."""
    return "".join(word.capitalize() for word in subject.split(".")[2].split("_"))


def told(service: str, entry: LogEntry) -> PublicEvent:
    """An entry as outsiders see it; also one of a type that only a newer release knows.

    Built unvalidated: the entry was checked, and an edge reads over thousands while payments wait.
    """
    event = entry.event
    return PublicEvent.model_construct(
        id=f"{service}:{entry.epoch}:{entry.position}",
        type=type_of(entry),
        version=int(entry.subject.rpartition(".v")[2]),
        account_id=event.get("account_id"),
        at=entry.at,
        service=service,
        position=entry.position,
        epoch=entry.epoch,
        correlation=next((event[name] for name in CORRELATED_BY if event.get(name)), None),
        causation=_causation(service, event),
        data=event,
    )


def _causation(service: str, event: Mapping[str, Any]) -> str | None:
    if event.get("lost_epoch") is not None:
        return f"{service}:{event['lost_epoch']}:{event['lost_position']}"
    if event.get("from_epoch"):
        return f"{event['publisher']}:{event['from_epoch']}:{event['to_position']}"
    return None


def merge(pages: Mapping[str, LogPage], cursor: Cursor, wanted: Wanted, limit: int) -> Reading:
    """Put one page of each log, read from the cursor, in order of time; at most `limit` events.

    It ends where a page ends that has more behind it, as what follows there may be older than the
    rest. What is not wanted is read over.
    """
    found: list[PublicEvent] = []
    places = dict(cursor)
    last_of = {service: page.entries[-1] for service, page in pages.items() if page.entries}
    for service, entry in _by_time(pages):
        if wanted.fits(entry):
            if len(found) == limit:
                return Reading(found, places, at_end=False)
            found.append(told(service, entry))
        places[service] = Place(entry.epoch, entry.position)
        if entry is last_of[service] and entry.position < pages[service].head:
            return Reading(found, places, at_end=False)
    return Reading(found, places, at_end=True)


def _by_time(pages: Mapping[str, LogPage]) -> Iterator[tuple[str, LogEntry]]:
    """Entries of all pages; those of one page stay in its order, whatever their times say."""
    runs = [[(service, entry) for entry in page.entries] for service, page in pages.items()]
    return heapq.merge(*runs, key=lambda each: each[1].at)


def follows(page: LogPage, place: Place | None) -> bool:
    """Whether a page goes on exactly where its reader was, so that nothing lies between."""
    before = page.entries[0].previous_position if page.entries else page.head
    return before == (place.position if place else 0)


def way_on(service: str, page: LogPage, place: Place) -> tuple[Place, LogPlace] | None:
    """Where a reader goes on whose epoch is over, and where the log stands.

    It goes back to the last place that its history and the log's share; what was lost after it may
    be told again, as recovered events. None: the log does not say, as its epoch is not yet raised.
    """
    following = next((epoch for epoch in page.epochs if epoch.epoch > place.epoch), None)
    if following is None:
        return None
    shared = [epoch for epoch in page.epochs if epoch.epoch <= place.epoch]
    if not shared:
        back = Place(following.epoch, 0)
    elif place.position >= following.began_after:
        back = Place(shared[-1].epoch, following.began_after)
    else:  # it was in a history beside this one; where they part is not told
        back = Place(shared[-1].epoch, shared[-1].began_after)
    stands = LogPlace(
        service=service,
        epoch=page.epoch,
        began_after=following.began_after,
        head=page.head,
        read_epoch=place.epoch,
        read_position=place.position,
    )
    return back, stands


def encode(cursor: Cursor) -> str:
    return urlsafe_b64encode(to_json(dict(sorted(cursor.items())))).decode().rstrip("=")


def decode(text: str) -> Cursor:
    """Raise ValueError if this is no cursor of ours."""
    try:
        places = PLACES.validate_json(urlsafe_b64decode(text + "=" * (-len(text) % 4)), strict=True)
    except (ValidationError, ValueError, binascii.Error):
        raise ValueError("not a cursor of this log") from None
    for service, place in places.items():
        if service not in PUBLISHERS or not all(0 <= number < POSITION_MAX for number in place):
            raise ValueError("not a cursor of this log")
    return places


def cursor_after(events: Sequence[PublicEvent]) -> Cursor:
    """How far somebody got who has read these, each log in its order."""
    return {
        service: max(Place(event.epoch, event.position) for event in of_service)
        for service, of_service in groupby(
            sorted(events, key=lambda event: event.service), key=lambda event: event.service
        )
    }
