"""What others hold and remember beside the tables, and what a broken rule is told as."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.faults.checker.tickets import Receipt, TicketId

BEGINNING = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class Violation:
    rule: str
    row: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.row}"


@dataclass(frozen=True, slots=True)
class Stopped:
    """An emergency stop, as its operator knows it: of an account, or of one user of it."""

    account_id: str
    user_id: str | None
    acknowledged_at: datetime
    lifted_at: datetime  # when the operator asked for that


@dataclass(frozen=True, slots=True)
class Killed:
    """From before a process died until all were served again."""

    since: datetime
    until: datetime


@dataclass
class Evidence:
    """What others hold: clients their answers, the orchestrator what it took, operators what they did.

    `entries` are those of quota's buckets, None: not asked for. `credit` is what quota says of accounts,
    `asked_at` when it was asked.
    """

    receipts: list[Receipt] = field(default_factory=list)
    accepted: set[TicketId] = field(default_factory=set)
    rejected: dict[TicketId, str] = field(default_factory=dict)  # with its reason
    stops: list[Stopped] = field(default_factory=list)
    kills: list[Killed] = field(default_factory=list)
    entries: dict[str, bytes] | None = None
    credit: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked_at: datetime = BEGINNING


def differences[K, V](what: str, expected: dict[K, V], found: dict[K, V]) -> Iterator[Violation]:
    for key in expected.keys() | found.keys():
        if (expected.get(key) or None) != (found.get(key) or None):  # nothing at all is 0
            yield Violation(what, f"{key}: {found.get(key)}, not {expected.get(key)}")
