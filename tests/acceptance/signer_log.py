"""A reader of the signer's event table that shares no code with the signer."""

import base64
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg

SIGNATURE_BYTES = 65
EVENTS = """
SELECT originator_id, topic, state FROM signer.signer_events
WHERE topic IN ('signer.session_named', 'signer.quote_accepted', 'signer.payment_signed')
ORDER BY originator_id, originator_version
"""
REQUESTED = "SELECT count(*) FROM signer.signer_events WHERE topic <> 'signer.session_closed'"

type TicketId = tuple[str, int]  # recipient rand hash in hex, nonce


@dataclass(frozen=True)
class Payment:
    account_id: str
    session_id: str
    rand_hash: str
    first_nonce: int
    tickets: int
    cost: int
    signatures: bytes

    def signed(self) -> Iterator[tuple[TicketId, bytes]]:
        """Each ticket with its signature."""
        for index in range(self.tickets):
            start = index * SIGNATURE_BYTES
            ticket = (self.rand_hash, self.first_nonce + index)
            yield ticket, self.signatures[start : start + SIGNATURE_BYTES]


@dataclass
class Log:
    payments: list[Payment] = field(default_factory=list)

    def of(self, account_id: str) -> "Log":
        return Log([payment for payment in self.payments if payment.account_id == account_id])

    @property
    def cost(self) -> int:
        return sum(payment.cost for payment in self.payments)

    @property
    def ticket_count(self) -> int:
        return sum(payment.tickets for payment in self.payments)

    def tickets(self) -> dict[TicketId, bytes]:
        return dict(entry for payment in self.payments for entry in payment.signed())

    def repeated_nonces(self) -> list[TicketId]:
        """Tickets that were signed more than once; there must be none, ever."""
        counts = Counter(ticket for payment in self.payments for ticket, _ in payment.signed())
        return [ticket for ticket, count in counts.items() if count > 1]

    def by_session(self) -> dict[str, tuple[int, int, int]]:
        """Payments, tickets and cost of each session."""
        sums: dict[str, tuple[int, int, int]] = defaultdict(lambda: (0, 0, 0))
        for payment in self.payments:
            payments, tickets, cost = sums[payment.session_id]
            sums[payment.session_id] = (payments + 1, tickets + payment.tickets, cost + payment.cost)
        return dict(sums)


def read_log(dsn: str) -> Log:
    log = Log()
    named: dict[str, Any] = {}
    rand_hash = ""
    with psycopg.connect(dsn, connect_timeout=5) as connection:
        for _, topic, stored in connection.execute(EVENTS):
            state = json.loads(bytes(stored))
            match topic:
                case "signer.session_named":
                    named, rand_hash = state, ""
                case "signer.quote_accepted":
                    rand_hash = state["recipient_rand_hash"]
                case _:
                    log.payments.append(_payment(named, rand_hash, state))
    return log


def count_requested(dsn: str) -> int:
    """Count all that requests have stored; sessions also close by themselves."""
    with psycopg.connect(dsn, connect_timeout=5) as connection:
        row = connection.execute(REQUESTED).fetchone()
    assert row is not None
    return int(row[0])


def _payment(named: dict[str, Any], rand_hash: str, state: dict[str, Any]) -> Payment:
    signatures = base64.b64decode(state["signatures"])
    assert len(signatures) == SIGNATURE_BYTES * state["tickets"]
    return Payment(
        account_id=named["account_id"],
        session_id=named["session_id"],
        rand_hash=rand_hash,
        first_nonce=state["first_nonce"],
        tickets=state["tickets"],
        cost=int(state["cost"]),
        signatures=signatures,
    )
