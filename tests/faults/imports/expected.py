"""What each hour, value and session has to be, from what was sent alone.

No hour is closed, so a record counts in its own as what its last correction says, or not at all.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from tests.faults.imports.sent import (
    APP,
    HOUR_MS,
    HOUR_US,
    METERS,
    NOTE,
    RUN,
    Event,
    Key,
    Sent,
    Ticket,
    Value,
)

BUILT_IN = "usage_events"
BILLION, MS_PLACES, BILLIONTH_PLACES = 10**9, 1000, 10**9


class Place(NamedTuple):
    """A row of a meter; hours since 1970."""

    account_id: str
    meter: str
    hour: int
    user_id: str
    groups: tuple[str, ...]


class Amount(NamedTuple):
    records: int = 0
    late: int = 0
    amount: Fraction = Fraction()

    def plus(self, records: int, late: int, amount: Fraction) -> "Amount":
        return Amount(self.records + records, self.late + late, self.amount + amount)


class PaidHour(NamedTuple):
    """A row of imported payments; hours since 1970."""

    account_id: str
    user_id: str
    job_type: str
    app: str
    recipient: str
    hour: int


class Paid(NamedTuple):
    payments: int = 0
    tickets: int = 0
    cost: int = 0
    units: int = 0
    sessions: int = 0
    late: int = 0

    def plus(self, other: "Paid") -> "Paid":
        return Paid(*(one + more for one, more in zip(self, other, strict=True)))


def kept_events(sent: Sent) -> dict[Key, Event]:
    return {key: event for key, event in sent.events.items() if not event.refused}


def kept_tickets(sent: Sent) -> dict[Key, Ticket]:
    return {key: ticket for key, ticket in sent.tickets.items() if not ticket.due}


def standing(sent: Sent) -> list[Event]:
    """The records with the data they have now; those that were voided are left out."""
    records: dict[Key, Event] = {}
    for key, event in kept_events(sent).items():
        if event.corrects:
            corrected = ("event", event.account_id, event.source, event.corrects)
            records[corrected] = replace(records[corrected], data=event.data)
        else:
            records[key] = event
    return [event for event in records.values() if event.data is not None]


def numbers_of_corrections(sent: Sent) -> dict[Key, int]:
    """How many corrections each record got."""
    found: dict[Key, int] = defaultdict(int)
    for event in kept_events(sent).values():
        if event.corrects:
            found["event", event.account_id, event.source, event.corrects] += 1
    return dict(found)


def hours(sent: Sent) -> dict[Place, Amount]:
    """The rows of meters that add up."""
    found: dict[Place, Amount] = defaultdict(Amount)
    for event in standing(sent):
        late = int(event.at // HOUR_US < sent.hour - 1)
        for place, records, amount in _added(event):
            found[place] = found[place].plus(records, late * records, amount)
    return dict(found)


def values(sent: Sent) -> dict[tuple[Place, str], int]:
    """How many records say each value of meters that keep values."""
    found: dict[tuple[Place, str], int] = defaultdict(int)
    for event in standing(sent):
        for meter in ("imported_peak", "imported_callers") if event.type == RUN else ():
            found[_place(event, meter), _text(_data(event)[METERS[meter]["value"]])] += 1
    return dict(found)


def told(sent: Sent) -> dict[Place, Fraction]:
    """What a query by hour, user and groups has to answer of each meter."""
    found = {place: amount.amount for place, amount in hours(sent).items()}
    seen: dict[Place, list[Fraction]] = defaultdict(list)
    for place, value in values(sent):
        is_max = METERS[place.meter]["aggregation"] == "max"
        seen[place].append(Fraction(value) if is_max else Fraction(1))
    for place, said in seen.items():
        found[place] = max(said) if METERS[place.meter]["aggregation"] == "max" else sum(said, Fraction())
    return found


def paid_hours(sent: Sent) -> dict[PaidHour, Paid]:
    """The rows of imported payments; where a session begins is a row without a recipient."""
    found: dict[PaidHour, Paid] = defaultdict(Paid)
    for ticket in kept_tickets(sent).values():
        hour = ticket.at // HOUR_MS
        late = int(hour < sent.hour - 1)
        place = PaidHour(ticket.account_id, ticket.user_id, ticket.job_type, APP, ticket.recipient, hour)
        found[place] = found[place].plus(Paid(1, ticket.tickets, ticket.fee, ticket.units, 0, late))
        if ticket.sequence == 0:
            begun = place._replace(recipient="")
            found[begun] = found[begun].plus(Paid(sessions=1, late=late))
    return dict(found)


def paid_sessions(sent: Sent) -> dict[tuple[str, str], Paid]:
    found: dict[tuple[str, str], Paid] = defaultdict(Paid)
    for ticket in kept_tickets(sent).values():
        session = ticket.account_id, f"go-livepeer:{ticket.session_id}"
        found[session] = found[session].plus(Paid(1, ticket.tickets, ticket.fee))
    return dict(found)


def in_billionths(data: Mapping[str, Value]) -> dict[str, str | int]:
    """As the log has data: numbers as whole billionths."""
    return {
        name: int(Fraction(value) * BILLION) if isinstance(value, Decimal) else value
        for name, value in data.items()
    }


def _added(event: Event) -> Iterator[tuple[Place, int, Fraction]]:
    """What a record adds: where, how many records, how much."""
    counted = Place(event.account_id, BUILT_IN, event.at // HOUR_US, event.user_id, (event.type,))
    yield counted, 1, Fraction(1)
    if event.type == NOTE:
        return
    data = _data(event)
    yield _place(event, "imported_tokens"), 1, Fraction(data["tokens"])
    if data.get("model") in METERS["imported_calls"]["filter"]["model"]:
        yield _place(event, "imported_calls"), 1, Fraction(1)
    busy = _place(event, "imported_busy")
    yield busy, 1, Fraction()
    for hour, ms in _spread(event.at // 1000, int(Fraction(data["seconds"]) * MS_PLACES)):
        yield busy._replace(hour=hour), 0, Fraction(ms, MS_PLACES)


def _spread(end: int, duration: int) -> Iterator[tuple[int, int]]:
    """The milliseconds of a duration that ended then, by hour; from its end backwards."""
    while duration > 0:
        hour = (end - 1) // HOUR_MS
        part = min(duration, end - hour * HOUR_MS)
        yield hour, part
        end, duration = end - part, duration - part


def _place(event: Event, meter: str) -> Place:
    groups = tuple(_text(_data(event).get(name, "")) for name in METERS[meter]["group_by"])
    return Place(event.account_id, meter, event.at // HOUR_US, event.user_id, groups)


def _data(event: Event) -> Mapping[str, Value]:
    assert event.data is not None
    return event.data


def _text(value: Value) -> str:
    """As short as it is exact."""
    return value if isinstance(value, str) else f"{value.normalize():f}"
