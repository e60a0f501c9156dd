"""Payments of a go-livepeer signer that is not ours: what they cost is estimated from its state.

It tells its webhook the state after each payment, not what the payment cost (protocol §8.1). A
payment's tickets bring what the balance rose by, and the fee that was taken from it meanwhile.
"""

from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from math import ceil
from uuid import NAMESPACE_URL, UUID, uuid5

from eventsourcing.domain import Aggregate, event

from shared.money import Wei

# What is billed, by job type (protocol §5.1): units a second, and how much the first payment covers.
UNITS_PER_SECOND = {"live": 1, "lv2v": 1280 * 720 * 30}
PRELOAD_SECONDS = {"live": 10, "lv2v": 60}
NANOSECONDS = 10**9


@dataclass(frozen=True, slots=True)
class Told:
    """A payment as the state told it. Amounts in wei, times in nanoseconds since 1970."""

    sequence: int
    balance: Fraction
    price: Fraction  # a unit
    job_type: str
    last_update: int | None


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

    @property
    def session_id(self) -> str:
        """Under which quota holds what it costs; never the id of a session of ours."""
        return f"go-livepeer:{self.state_id}"

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
