"""What happened to every ticket, payment and challenge, kept in memory for whoever asks /status."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedPayment:
    """A payment answered with an error, whether or not any of its tickets was looked at."""

    path: str
    status: int
    reason: str
    manifest_id: str  # as its credentials say, if they could be read


@dataclass(frozen=True, slots=True, kw_only=True)
class IgnoredPayment:
    """A payment answered with another challenge; its tickets were not looked at, but could be kept."""

    runner: str
    manifest_id: str
    recipient_rand_hash: str
    nonces: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenChallenge:
    """`repeats` is empty for an honest one, else "fresh" or "same", as a test wanted it."""

    runner: str
    manifest_id: str
    sender: str
    recipient_rand_hash: str
    repeats: str = ""


@dataclass(slots=True)
class Counters:
    tickets_accepted: int = 0
    tickets_rejected: int = 0
    payments_received: int = 0
    payments_accepted: int = 0  # every ticket credited
    payments_refused: int = 0  # answered with an error; one that was credited can be, too
    payments_ignored: int = 0
    challenges: int = 0  # repeated ones among them
    challenges_repeated: int = 0
    refreshes: int = 0
    orchestrator_infos: int = 0
    rpcs_refused: int = 0
    sessions_ended: int = 0  # by EndTranscodingSession


def _records[T]() -> deque[T]:
    return deque(maxlen=RECORDS_MAX)


@dataclass(slots=True)
class Journal:
    counters: Counters = field(default_factory=Counters)
    accepted: deque[TicketRecord] = field(default_factory=_records)
    rejected: deque[TicketRecord] = field(default_factory=_records)
    refused: deque[RefusedPayment] = field(default_factory=_records)
    ignored: deque[IgnoredPayment] = field(default_factory=_records)
    challenges: deque[GivenChallenge] = field(default_factory=_records)

    def ticket_accepted(self, ticket: Ticket, manifest_id: str) -> None:
        self.counters.tickets_accepted += 1
        self.accepted.append(TicketRecord(ticket, manifest_id, ticket.params.expected_value))

    def ticket_rejected(self, ticket: Ticket, manifest_id: str, reason: str) -> None:
        self.counters.tickets_rejected += 1
        self.rejected.append(TicketRecord(ticket, manifest_id, ticket.params.expected_value, reason))

    def payment_refused(self, payment: RefusedPayment) -> None:
        self.counters.payments_refused += 1
        self.refused.append(payment)

    def payment_ignored(self, payment: IgnoredPayment) -> None:
        self.counters.payments_ignored += 1
        self.ignored.append(payment)

    def challenge_given(self, challenge: GivenChallenge) -> None:
        self.counters.challenges += 1
        self.counters.challenges_repeated += bool(challenge.repeats)
        self.challenges.append(challenge)
