"""What importers sent and were answered, as they know it themselves; and what meters count of it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

RUN, NOTE = "imports.run", "imports.note"  # types of events: no defined meter counts the second
APP = "imported"  # of signed tickets that are imported; no client of ours pays for it
HOUR_US, HOUR_MS = 3_600_000_000, 3_600_000
GOOD = frozenset({"recorded", "repeated"})

# As an administrator puts them. The first four count each event of the type, the fifth some.
METERS: dict[str, dict[str, Any]] = {
    "imported_tokens": {"aggregation": "sum", "value": "tokens", "group_by": ["model"]},
    "imported_peak": {"aggregation": "max", "value": "tokens", "group_by": ["model", "region"]},
    "imported_callers": {"aggregation": "unique", "value": "caller", "group_by": ["region"]},
    "imported_busy": {"aggregation": "time", "value": "seconds", "group_by": ["model"]},
    "imported_calls": {
        "aggregation": "count",
        "group_by": ["region"],
        "filter": {"model": ["small", "tiny"]},
    },
}

type Value = str | Decimal
type Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Event:
    """A CloudEvent; `at` in microseconds since 1970. A correction without data voids its record.

    `refused` is the code it has to be refused with, "" of one that has to be recorded.
    """

    account_id: str
    user_id: str  # "" of the account itself
    source: str
    event_id: str
    type: str
    at: int
    data: Mapping[str, Value] | None
    corrects: str = ""
    refused: str = ""

    @property
    def key(self) -> Key:
        return "event", self.account_id, self.source, self.event_id

    @property
    def about(self) -> Key:
        """Whatever has the same is sent in this order."""
        return "event", self.account_id, self.source, self.corrects or self.event_id


@dataclass(frozen=True, slots=True)
class Ticket:
    """A `create_signed_ticket`; `at` in milliseconds since 1970. `due`: its answer, if not kept."""

    account_id: str
    user_id: str
    event_id: str
    session_id: str
    sequence: int
    at: int
    recipient: str
    job_type: str
    tickets: int
    fee: int  # wei
    units: int
    due: str = ""

    @property
    def key(self) -> Key:
        return "ticket", self.account_id, self.event_id, ""  # the gateway, which tells no name

    @property
    def about(self) -> Key:
        return self.key


@dataclass
class Sent:
    """Of all importers of a run, each key as it was sent first. `hour`: when they began, since 1970."""

    hour: int
    events: dict[Key, Event] = field(default_factory=dict)
    tickets: dict[Key, Ticket] = field(default_factory=dict)
    answers: dict[Key, Counter[str]] = field(default_factory=dict)

    def add(self, items: Iterable[Event | Ticket]) -> None:
        for item in items:
            if isinstance(item, Event):
                self.events.setdefault(item.key, item)
            else:
                self.tickets.setdefault(item.key, item)

    def answered(self, key: Key, answer: str) -> None:
        self.answers.setdefault(key, Counter())[answer] += 1

    def due(self, key: Key) -> str:
        """How it has to be answered; "" if it has to be kept."""
        item: Event | Ticket = self.events[key] if key[0] == "event" else self.tickets[key]
        return item.refused if isinstance(item, Event) else item.due
