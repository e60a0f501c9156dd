"""What happened to every ticket, kept in memory for whoever asks /status."""

from collections import deque
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from tilt.orchestrator.addresses import checksummed
from tilt.orchestrator.tickets import Ticket

RECORDS_MAX = 100_000


@dataclass(frozen=True, slots=True)
class TicketRecord:
    ticket: Ticket
    manifest_id: str
    ev: Fraction
    reason: str | None = None  # why it was rejected, if it was

    def to_json(self) -> dict[str, Any]:
        record = {
            "sender": checksummed(self.ticket.sender),
            "manifest_id": self.manifest_id,
            "recipient_rand_hash": f"0x{self.ticket.params.recipient_rand_hash.hex()}",
            "nonce": self.ticket.nonce,
            "ev": str(self.ev),
        }
        return record if self.reason is None else {**record, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class RefusedPayment:
    """A payment answered with an error, whether or not any of its tickets was looked at."""

    path: str
    status: int
    reason: str


@dataclass(slots=True)
class Journal:
    accepted: deque[TicketRecord] = field(default_factory=lambda: deque(maxlen=RECORDS_MAX))
    rejected: deque[TicketRecord] = field(default_factory=lambda: deque(maxlen=RECORDS_MAX))
    refused: deque[RefusedPayment] = field(default_factory=lambda: deque(maxlen=RECORDS_MAX))
    tickets_accepted: int = 0
    tickets_rejected: int = 0
    payments_accepted: int = 0
    payments_refused: int = 0

    def ticket_accepted(self, ticket: Ticket, manifest_id: str) -> None:
        self.tickets_accepted += 1
        self.accepted.append(TicketRecord(ticket, manifest_id, ticket.params.expected_value))

    def ticket_rejected(self, ticket: Ticket, manifest_id: str, reason: str) -> None:
        self.tickets_rejected += 1
        self.rejected.append(TicketRecord(ticket, manifest_id, ticket.params.expected_value, reason))

    def payment_accepted(self) -> None:
        self.payments_accepted += 1

    def payment_refused(self, path: str, status: int, reason: str) -> None:
        self.payments_refused += 1
        self.refused.append(RefusedPayment(path, status, reason))
