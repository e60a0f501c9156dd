"""Usage: what was paid, by whom and for what, kept exactly and in batches.

A UsageBatch is one pulled batch of the signer's log. Its facts are stored once and compactly; the
hourly rollup and the sessions are folds of them, pure and without a clock, so that they can be
rebuilt at any time.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from fractions import Fraction
from math import floor
from typing import NamedTuple, NotRequired, TypedDict
from uuid import NAMESPACE_URL, UUID, uuid5

from eventsourcing.domain import Aggregate, event

from shared.money import Wei

RECORDS_MAX = 500
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
HOUR_MICROSECONDS = 3_600_000_000
SCALE_BITS = 256
NOBODY_TOLD = ("", "")  # key and capability of old batches

# The rows of a batch. `at` is in microseconds after the batch's first entry, no user or stream is "".
# account, user, session, job type, app, recipient; key and capability, which old batches do not tell
type Who = tuple[str, ...]
type Price = tuple[int, int, int]  # EV of a ticket in wei over CERTAIN, price per unit, pixels per unit
# position after the batch's first, at, index of who, index of price, tickets, cost, units
type Payment = tuple[int, int, int, int, int, int, int]
# at, account, user, session, job type, app, orchestrator, stream; key and capability as above
type Opening = (
    tuple[int, str, str, str, str, str, str, str] | tuple[int, str, str, str, str, str, str, str, str, str]
)
type Closing = tuple[int, int, str, str]  # position after the batch's first, at, account, session
type Refusal = tuple[int, str, str, int, str]  # at, account, session, status, reason
type Told = tuple[str, str]  # of another signer's payment: its event's id and gateway

FEE_IS_COST: Price = (0, 0, 0)  # nobody told EV or price: what was used is what it cost


class Usage(TypedDict):
    """What a batch says, as it is stored: what repeats is told once and named by its index."""

    at: int  # microseconds since 1970 of its first entry
    who: Sequence[Who]
    prices: Sequence[Price]
    payments: Sequence[Payment]
    opened: Sequence[Opening]
    closed: Sequence[Closing]
    refused: NotRequired[Sequence[Refusal]]
    told: NotRequired[Sequence[Told]]  # of each payment, where another signer made them


class Span(NamedTuple):
    """Which entries of which log a batch covers."""

    publisher: str
    epoch: int
    first: int
    last: int

    @property
    def place(self) -> int:
        """Where it begins among all entries of its publisher, of whichever epoch."""
        return (self.epoch << 63) + self.first


class UsageBatch(Aggregate):
    """The usage records of one stretch of a publisher's log; written once."""

    TOPIC = "metering.usage_batch"

    class Event(Aggregate.Event):
        TOPIC = "metering.usage_batch.event"

    class Recorded(Event, Aggregate.Created):
        TOPIC = "metering.usage_recorded"
        publisher: str
        epoch: int
        first: int
        last: int
        records: int
        cost: Wei
        usage: Usage

        @property
        def span(self) -> Span:
            return Span(self.publisher, self.epoch, self.first, self.last)

    @staticmethod
    def create_id(publisher: str, epoch: int, first: int, usage: Usage | None = None) -> UUID:
        """Name the batch by where it begins, so that recording a stretch twice collides.

        Payments of another signer are in no log of ours: the first is named by its event.
        """
        if usage is None or "told" not in usage:
            return uuid5(NAMESPACE_URL, f"/logs/{publisher}/{epoch}/{first}/usage")
        event_id, gateway = usage["told"][0]
        return uuid5(NAMESPACE_URL, f"/logs/{publisher}/{usage['who'][0][0]}/{event_id}/{gateway}/usage")

    @event(Recorded)
    def __init__(
        self,
        publisher: str,
        epoch: int,
        first: int,
        last: int,
        records: int,
        cost: Wei,
        usage: Usage,
        timestamp: datetime,
    ) -> None:
        self.records = records

    @classmethod
    def record(cls, span: Span, usage: Usage, now: datetime) -> "UsageBatch":
        if span.last - span.first < 0 or len(usage["payments"]) > RECORDS_MAX:
            raise ValueError(f"{span} with {len(usage['payments'])} records is no batch")
        cost = Wei(sum(payment[5] for payment in usage["payments"]))
        return cls(*span, len(usage["payments"]), cost, usage, timestamp=now)


class Hour(NamedTuple):
    """What usage is summed by. `fee_denominator` is in it so that the sum of fees stays exact."""

    account_id: str
    user_id: str
    key_id: str
    job_type: str
    app: str
    capability: str
    recipient: str  # "" of openings, which name none: no payment shares their rows
    hour: int  # hours since 1970
    fee_denominator: int


class Sums(NamedTuple):
    """Exact sums: EV in wei is `ev_numerator` / CERTAIN, the fee its numerator / denominator.

    `units` are seconds of live jobs, pixels of lv2v jobs and of those without a type, else calls.
    `sessions` are those opened.
    """

    payments: int
    tickets: int
    cost: int
    ev_numerator: int
    fee_numerator: int
    units: int
    sessions: int


class SessionFacts(NamedTuple):
    user_id: str
    job_type: str
    app: str
    orchestrator: str
    stream_id: str


NOTHING_KNOWN = SessionFacts("", "", "", "", "")


class ToldBy(IntEnum):
    """Who told the facts of a session; the higher is believed, of equals the first."""

    CLOSING = 0
    PAYMENT = 1
    OPENING = 2


class SessionChange:
    """What a batch tells about one payment session. Positions are after the batch's first."""

    def __init__(self, at: int) -> None:
        self.first_at = at
        self.last_at = at
        self.facts = NOTHING_KNOWN
        self.told_by = ToldBy.CLOSING
        self.payments = self.tickets = self.cost = 0
        self.first_paid: tuple[int, int] | None = None  # position and cost
        self.paid_position = self.closed_position = -1
        self.paid_at: int | None = None  # the latest

    @property
    def closed(self) -> bool:
        """Nothing was paid after the last closing; a payment opens a session again."""
        return self.closed_position > self.paid_position

    def seen(self, at: int) -> None:
        self.first_at = min(self.first_at, at)
        self.last_at = max(self.last_at, at)

    def learn(self, facts: SessionFacts, told_by: ToldBy) -> None:
        if told_by > self.told_by:
            self.facts, self.told_by = facts, told_by

    def paid(self, position: int, at: int, tickets: int, cost: int) -> None:
        self.payments += 1
        self.tickets += tickets
        self.cost += cost
        self.paid_position = position
        self.paid_at = max(self.paid_at or at, at)
        if self.first_paid is None:
            self.first_paid = position, cost

    def close(self, position: int) -> None:
        self.closed_position = position


def rollup(usage: Usage) -> dict[Hour, Sums]:
    """Sum a batch by hour. Large numbers are multiplied per group, not per payment."""
    groups: dict[tuple[int, int, int], list[int]] = {}
    start = usage["at"]
    for _, at, who, price, tickets, cost, units in usage["payments"]:
        key = (who, price, (start + at) // HOUR_MICROSECONDS)
        group = groups.get(key)
        if group is None:
            groups[key] = [1, tickets, cost, units]
        else:
            group[0] += 1
            group[1] += tickets
            group[2] += cost
            group[3] += units
    sums = _openings(usage)
    for (who, price, hour), (payments, tickets, cost, units) in groups.items():
        account, user, _, job_type, app, recipient, *use = usage["who"][who]
        ev, price_per_unit, pixels_per_unit = usage["prices"][price]
        key_id, capability = use or NOBODY_TOLD
        denominator = pixels_per_unit or 1
        fee = units * price_per_unit if pixels_per_unit else cost
        by = Hour(account, user, key_id, job_type, app, capability, recipient, hour, denominator)
        added = Sums(payments, tickets, cost, tickets * ev, fee, units, 0)
        sums[by] = add(sums[by], added) if by in sums else added
    return sums


def _openings(usage: Usage) -> dict[Hour, Sums]:
    sums: dict[Hour, Sums] = {}
    one = Sums(0, 0, 0, 0, 0, 0, 1)
    for at, account, user, _, job_type, app, _, _, *use in usage["opened"]:
        key_id, capability = use or NOBODY_TOLD
        hour = (usage["at"] + at) // HOUR_MICROSECONDS
        by = Hour(account, user, key_id, job_type, app, capability, "", hour, 1)
        sums[by] = add(sums[by], one) if by in sums else one
    return sums


def accounts_of(usage: Usage) -> set[str]:
    return {who[0] for who in usage["who"]} | {opening[1] for opening in usage["opened"]}


def add(one: Sums, other: Sums) -> Sums:
    return Sums(*(left + right for left, right in zip(one, other, strict=True)))


def session_changes(usage: Usage) -> dict[tuple[str, str], SessionChange]:
    """What a batch changes in the sessions it mentions, by account and session."""
    changes: dict[tuple[str, str], SessionChange] = {}
    for at, account, user, session, job_type, app, orchestrator, stream, *_ in usage["opened"]:
        change = _change(changes, (account, session), usage["at"] + at)
        change.learn(SessionFacts(user, job_type, app, orchestrator, stream), ToldBy.OPENING)
    _pay(usage, changes)
    for position, at, account, session in usage["closed"]:
        _change(changes, (account, session), usage["at"] + at).close(position)
    return changes


def _pay(usage: Usage, changes: dict[tuple[str, str], SessionChange]) -> None:
    by_who: list[SessionChange | None] = [None] * len(usage["who"])
    start = usage["at"]
    for position, at, who, _, tickets, cost, _ in usage["payments"]:
        change = by_who[who]
        if change is None:
            account, user, session, job_type, app, *_ = usage["who"][who]
            change = by_who[who] = _change(changes, (account, session), start + at)
            change.learn(SessionFacts(user, job_type, app, "", ""), ToldBy.PAYMENT)
        change.seen(start + at)
        change.paid(position, start + at, tickets, cost)


def _change(changes: dict[tuple[str, str], SessionChange], key: tuple[str, str], at: int) -> SessionChange:
    change = changes.get(key)
    if change is None:
        change = changes[key] = SessionChange(at)
    change.seen(at)
    return change


def late_hour(recorded_at: datetime) -> int:
    """What lies in hours before this one comes late: its hour was over for more than an hour."""
    return (recorded_at - EPOCH) // timedelta(hours=1) - 1


def moment(microseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=microseconds)


def whole_wei(terms: Iterable[tuple[int, int]]) -> Wei:
    """The floor of the exact sum of non-negative fractions.

    Denominators are what orchestrators quote, so their common multiple may be huge: a sum with
    256 binary places decides, unless it lies too close to a whole number.
    """
    fractions = list(terms)
    low = sum((numerator << SCALE_BITS) // denominator for numerator, denominator in fractions)
    if low >> SCALE_BITS == (low + len(fractions)) >> SCALE_BITS:
        return Wei(low >> SCALE_BITS)
    return Wei(floor(sum(Fraction(*fraction) for fraction in fractions)))
