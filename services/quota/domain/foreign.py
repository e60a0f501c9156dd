"""Payments of a go-livepeer signer that is not ours: what they cost is estimated from its state.

It tells its webhook the state after each payment, not what the payment cost (protocol §8.1). A
payment's tickets bring what the balance rose by, and the fee that was taken from it meanwhile.

An estimate is held until its session is idle, and counts as spent then. What the payment's own event
tells takes its place, whenever that comes.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from math import ceil
from typing import NamedTuple
from uuid import NAMESPACE_URL, UUID, uuid5

from eventsourcing.domain import Aggregate, event

from services.quota.domain.limit_set import Scope
from services.quota.domain.spending import Rate
from services.quota.domain.windows import grain
from shared.money import MicroUsd, Wei

# What is billed, by job type (protocol §5.1): units a second, and how much the first payment covers.
UNITS_PER_SECOND = {"live": 1, "lv2v": 1280 * 720 * 30}
PRELOAD_SECONDS = {"live": 10, "lv2v": 60}
NANOSECONDS = 10**9
PREFIX = "go-livepeer:"  # of session ids under which quota holds what they cost
NOTHING = Wei(0)
ESTIMATES_KEPT = 2_000  # of a session: an hour and more of payments each few seconds


@dataclass(frozen=True, slots=True)
class Told:
    """A payment as the state told it. Amounts in wei, times in nanoseconds since 1970."""

    sequence: int
    balance: Fraction
    price: Fraction  # a unit
    job_type: str
    last_update: int | None


@dataclass(frozen=True, slots=True)
class Paid:
    """A payment as its own event told it: what was used of it, in wei."""

    sequence: int
    fee: Wei
    signed_at: datetime
    user_id: str | None


class Counted(NamedTuple):
    """When and how estimates counted as spent, and in whose budgets below the account's."""

    at: datetime
    rate: Rate | None
    scopes: tuple[Scope, ...]


@dataclass(slots=True)
class Correction:
    """What one moment's budgets have to be told: all of it lies in the same windows.

    `freed` are estimates that were held, by number of their ask. `spent` is less than nothing where
    estimates had counted for more. `counted`: how they did; None: nothing of it has counted yet.
    """

    at: datetime
    user_id: str | None
    counted: Counted | None
    freed: dict[str, Wei] = field(default_factory=dict)
    spent: Wei = NOTHING


class ForeignSession(Aggregate):
    """One chain of payments of a signer that is not ours."""

    TOPIC = "quota.foreign_session"

    class Event(Aggregate.Event):
        TOPIC = "quota.foreign_session.event"

    class Opened(Event, Aggregate.Created):
        TOPIC = "quota.foreign_session_opened"
        account_id: str
        state_id: str

    class PaymentTold(Event):
        TOPIC = "quota.foreign_payment_told"
        sequence: int
        balance: str
        last_update: int | None
        estimate: Wei

    class EstimatesSettled(Event):
        """All that were held count as spent."""

        TOPIC = "quota.foreign_estimates_settled"
        counted_at: datetime
        counted_by: list[list[str | None]]  # user, key and session token, one of them each
        micro_usd_per_eth: int
        rate_source: str
        rate_at: datetime | None

    class PaymentsCorrected(Event):
        """These payments' own events took the place of their estimates."""

        TOPIC = "quota.foreign_payments_corrected"
        sequences: list[int]

    @staticmethod
    def create_id(account_id: str, state_id: str) -> UUID:
        return uuid5(NAMESPACE_URL, f"/accounts/{account_id}/foreign-sessions/{state_id}")

    @event(Opened)
    def __init__(self, account_id: str, state_id: str, timestamp: datetime) -> None:
        self.account_id = account_id
        self.state_id = state_id
        self.sequence = -1
        self.balance = "0"
        self.last_update: int | None = None
        self.estimate = Wei(0)  # of the last payment
        self.held: dict[int, Wei] = {}  # by sequence: estimates that are held, the first first
        self.settled: dict[int, tuple[Wei, Counted]] = {}  # those that count as spent
        self.forgotten = -1  # up to here estimates stay what they are

    @property
    def session_id(self) -> str:
        """Under which quota holds what it costs; never the id of a session of ours."""
        return PREFIX + self.state_id

    def estimate_of(self, told: Told) -> Wei:
        """What the payment's tickets cost, rounded up; nothing if it was told before."""
        if told.sequence <= self.sequence:
            return Wei(0)
        brought = told.balance - Fraction(self.balance) + self._units(told) * told.price
        return Wei(max(0, ceil(brought)))

    def _units(self, told: Told) -> Fraction:
        """What was billed since the last payment; of requests without a job type nobody tells."""
        if told.job_type == "fixed":
            return Fraction(1)
        if told.job_type not in UNITS_PER_SECOND:
            return Fraction(0)
        if self.last_update is None or told.last_update is None:
            seconds = Fraction(PRELOAD_SECONDS[told.job_type])
        else:
            seconds = Fraction(max(0, told.last_update - self.last_update), NANOSECONDS)
        return seconds * UNITS_PER_SECOND[told.job_type]

    def tell(self, told: Told, estimate: Wei, now: datetime) -> None:
        if told.sequence > self.sequence:
            self._told(told.sequence, str(told.balance), told.last_update, estimate, now)

    @event(PaymentTold)
    def _told(
        self, sequence: int, balance: str, last_update: int | None, estimate: Wei, timestamp: datetime
    ) -> None:
        self.sequence = sequence
        self.balance = balance
        self.last_update = last_update
        self.estimate = estimate
        self.held[sequence] = estimate
        self._forget()

    def settle(self, counted: Counted, now: datetime) -> None:
        """What is held counts as spent."""
        if not self.held:
            return
        rate = counted.rate
        self._settled(
            counted_at=counted.at,
            counted_by=[list(scope.ids[1:]) for scope in counted.scopes],
            micro_usd_per_eth=rate.micro_usd_per_eth if rate else 0,
            rate_source=rate.source if rate else "",
            rate_at=rate.observed_at if rate else None,
            timestamp=now,
        )

    @event(EstimatesSettled)
    def _settled(
        self,
        counted_at: datetime,
        counted_by: list[list[str | None]],
        micro_usd_per_eth: int,
        rate_source: str,
        rate_at: datetime | None,
        timestamp: datetime,
    ) -> None:
        rate = Rate(MicroUsd(micro_usd_per_eth), rate_source, rate_at) if rate_at is not None else None
        scopes = tuple(Scope(self.account_id, *ids) for ids in counted_by)
        counted = Counted(counted_at, rate, scopes)
        self.settled |= {sequence: (estimate, counted) for sequence, estimate in self.held.items()}
        self.held = {}

    def correct(self, payments: Iterable[Paid], now: datetime) -> list[Correction]:
        """Put what payments cost in the place of their estimates; say what that changes in budgets."""
        known = self.held.keys() | self.settled.keys()
        corrected: set[int] = set()
        found: list[Correction] = []
        for paid in payments:
            estimated = paid.sequence in known and paid.sequence not in corrected
            if estimated:
                corrected.add(paid.sequence)
            if estimated or paid.sequence > self.forgotten:
                self._add(found, paid, estimated=estimated)
        if corrected:
            self._corrected(sorted(corrected), now)
        return found

    def _add(self, corrections: list[Correction], paid: Paid, *, estimated: bool) -> None:
        settled = self.settled.get(paid.sequence) if estimated else None
        held = self.held.get(paid.sequence) if estimated else None
        counted = settled[1] if settled is not None else None
        correction = _of_moment(corrections, counted.at if counted else paid.signed_at, paid.user_id, counted)
        if held is not None:
            correction.freed[str(paid.sequence + 1)] = held
        correction.spent = Wei(correction.spent + paid.fee - (settled[0] if settled is not None else 0))

    @event(PaymentsCorrected)
    def _corrected(self, sequences: list[int], timestamp: datetime) -> None:
        for sequence in sequences:
            self.held.pop(sequence, None)
            self.settled.pop(sequence, None)

    def _forget(self) -> None:
        """The oldest stay as they were estimated, held until the session is idle, or spent."""
        while len(self.held) + len(self.settled) > ESTIMATES_KEPT:
            estimates = self.settled or self.held
            oldest = next(iter(estimates))
            del estimates[oldest]
            self.forgotten = max(self.forgotten, oldest)


def _of_moment(
    corrections: list[Correction], at: datetime, user_id: str | None, counted: Counted | None
) -> Correction:
    """The one that this may be added to, or a new one."""
    for each in corrections:
        if grain(each.at) == grain(at) and each.user_id == user_id and each.counted == counted:
            return each
    corrections.append(Correction(at, user_id, counted))
    return corrections[-1]
