"""Reserved sessions: a runner's slots, metered in real time until someone stops paying."""

from collections import deque
from dataclasses import dataclass, field

import structlog

from tilt.orchestrator.addresses import Address
from tilt.orchestrator.ledger import Ledger
from tilt.orchestrator.refusals import RefusedError

LIVE_PAYMENT_INTERVAL_SECONDS = 5
RELEASED_MAX = 1_000

log = structlog.get_logger()


@dataclass(slots=True)
class Session:
    session_id: str
    sender: Address
    metered_until: float  # whole seconds up to here are paid; the rest waits for the next debit
    release_reason: str | None = None  # none while it runs


@dataclass(slots=True)
class Sessions:
    ledger: Ledger
    capacity: int
    active: dict[str, Session] = field(default_factory=dict)
    released: deque[Session] = field(default_factory=lambda: deque(maxlen=RELEASED_MAX))

    def reserve(self, session_id: str, sender: Address, now: float) -> None:
        if session_id in self.active:
            raise RefusedError(409, "session already exists")
        if len(self.active) >= self.capacity:
            raise RefusedError(503, "no capacity")
        self.active[session_id] = Session(session_id, sender, metered_until=now)
        log.info("session_reserved", session_id=session_id)

    def check_is_active(self, session_id: str) -> None:
        if session_id not in self.active:
            raise RefusedError(404, "session not found")

    def release(self, session_id: str, reason: str) -> None:
        """End a session; one that has ended already keeps its reason."""
        session = self.active.pop(session_id, None)
        if session is None:
            return
        session.release_reason = reason
        self.released.append(session)
        log.info("session_released", session_id=session_id, reason=reason)

    def debit(self, now: float) -> None:
        """Charge every session that ran for an interval; release those that cannot pay."""
        for session in list(self.active.values()):
            elapsed = now - session.metered_until
            if elapsed >= LIVE_PAYMENT_INTERVAL_SECONDS:
                self._debit(session, units=int(elapsed))

    def _debit(self, session: Session, units: int) -> None:
        session.metered_until += units
        if not self.ledger.account(session.sender, session.session_id).debit(units):
            self.release(session.session_id, "insufficient balance")
