"""Reserved sessions: slots of a runner or a model, metered in real time until someone stops paying."""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from fractions import Fraction

import structlog

from tilt.orchestrator.addresses import Address
from tilt.orchestrator.ledger import Ledger
from tilt.orchestrator.refusals import RefusedError

LIVE_PAYMENT_INTERVAL_SECONDS = 5
RELEASED_MAX = 10_000
INSUFFICIENT_BALANCE = "insufficient balance"

log = structlog.get_logger()


@dataclass(slots=True, kw_only=True)
class Session:
    """`place` is a runner's id or a model's key; a session of zero units per second is not metered."""

    session_id: str
    sender: Address
    place: str
    units_per_second: int
    price: Fraction  # wei for a unit, as the first payment expected it
    opened_at: float
    # Units up to here are charged; the rest of a unit waits. A fraction, as floats would lose pixels.
    metered_until: Fraction
    release_reason: str | None = None  # none while it runs
    over: asyncio.Event = field(default_factory=asyncio.Event, repr=False)


@dataclass(slots=True)
class Sessions:
    ledger: Ledger
    active: dict[tuple[str, str], Session] = field(default_factory=dict)  # by place and id
    released: deque[Session] = field(default_factory=lambda: deque(maxlen=RELEASED_MAX))

    def reserve(
        self,
        place: str,
        session_id: str,
        sender: Address,
        *,
        capacity: int,
        units_per_second: int,
        price: Fraction,
        now: float,
    ) -> Session:
        if (place, session_id) in self.active:
            raise RefusedError(409, "session already exists")
        if self.in_use(place) >= capacity:
            raise RefusedError(503, "no capacity available for runner")
        session = Session(
            session_id=session_id,
            sender=sender,
            place=place,
            units_per_second=units_per_second,
            price=price,
            opened_at=now,
            metered_until=Fraction(now),
        )
        self.active[place, session_id] = session
        log.info("session_reserved", place=place, session_id=session_id)
        return session

    def in_use(self, place: str) -> int:
        return sum(session.place == place for session in self.active.values())

    def find(self, place: str, session_id: str) -> Session:
        session = self.active.get((place, session_id))
        if session is None:
            raise RefusedError(404, "runner session not found")
        return session

    def named(self, session_id: str) -> list[Session]:
        """Whatever runs under this id, at whichever place."""
        return [session for session in self.active.values() if session.session_id == session_id]

    def release(self, session: Session, reason: str) -> None:
        """End a session; one that has ended already keeps its reason."""
        if session.release_reason is not None:
            return
        del self.active[session.place, session.session_id]
        session.release_reason = reason
        session.over.set()
        self.released.append(session)
        log.info("session_released", session_id=session.session_id, reason=reason)

    def debit(self, now: float) -> None:
        """Charge every session that ran for an interval; release those that cannot pay."""
        for session in list(self.active.values()):
            elapsed = Fraction(now) - session.metered_until
            if session.units_per_second and elapsed >= LIVE_PAYMENT_INTERVAL_SECONDS:
                self._debit(session, units=int(session.units_per_second * elapsed))

    def _debit(self, session: Session, units: int) -> None:
        session.metered_until += Fraction(units, session.units_per_second)
        account = self.ledger.find(session.sender, session.session_id)
        if account is None or not account.debit(units, session.price):
            self.release(session, INSUFFICIENT_BALANCE)
