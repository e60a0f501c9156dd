"""Payments that another signer has made, as usage: the records of one account that were told together.

They are a UsageBatch like any other, so that whoever sums or lists usage needs to know nothing of
them. What is told of each beside is the event's id and gateway.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import NAMESPACE_URL, UUID, uuid5

from services.metering.domain.usage import (
    FEE_IS_COST,
    Opening,
    Payment,
    Span,
    Usage,
    Who,
    moment,
)

PUBLISHER = "go-livepeer"
SESSION_PREFIX = "go-livepeer:"  # never an id of a session of ours
MILLISECOND = 1_000  # microseconds


@dataclass(frozen=True, slots=True)
class SignedTicket:
    """One payment: `fee` in wei, `signed_at_ms` since 1970. No user is ""."""

    account_id: str
    user_id: str
    event_id: str
    gateway: str
    state_id: str
    sequence: int
    signed_at_ms: int
    orchestrator: str
    job_type: str
    app: str
    tickets: int
    fee: int
    pixels: int
    billable_seconds: int

    @property
    def key(self) -> UUID:
        return key_of(self.account_id, self.event_id, self.gateway)

    @property
    def who(self) -> Who:
        session_id = SESSION_PREFIX + self.state_id
        return (self.account_id, self.user_id, session_id, self.job_type, self.app, self.orchestrator)

    @property
    def units(self) -> int:
        """As our own payments have them: seconds, calls or pixels."""
        match self.job_type:
            case "live":
                return self.billable_seconds
            case "fixed":
                return 1
        return self.pixels


class Paid(NamedTuple):
    """A payment of a stored batch, as others are told of it."""

    user_id: str
    state_id: str
    sequence: int
    fee: int
    signed_at: datetime


def key_of(account_id: str, event_id: str, gateway: str) -> UUID:
    """Name an event by whose it is and who told it: ids are made up at each gateway."""
    return uuid5(NAMESPACE_URL, f"/accounts/{account_id}/signed-tickets/{event_id}/{gateway}")


def usage_of(tickets: Sequence[SignedTicket]) -> tuple[Span, Usage]:
    """Those of one account, at most 500, that were not recorded before.

    Their positions are their sequences: each session counts as a log of its own.
    """
    ordered = sorted(tickets, key=lambda ticket: (ticket.state_id, ticket.sequence))
    return Span(PUBLISHER, 0, 0, max(ticket.sequence for ticket in tickets)), _usage_of(ordered)


def keys_of(usage: Usage) -> Iterator[UUID]:
    """Of the events that a stored batch is made of; none of our own signer's."""
    for event_id, gateway in usage.get("told", ()):
        yield key_of(usage["who"][0][0], event_id, gateway)


def paid_of(usage: Usage) -> list[Paid]:
    """What a stored batch tells of each payment."""
    found = []
    for sequence, at, who, _, _, cost, _ in usage["payments"]:
        _, user_id, session_id, *_ = usage["who"][who]
        signed_at = moment(usage["at"] + at)
        found.append(Paid(user_id, session_id.removeprefix(SESSION_PREFIX), sequence, cost, signed_at))
    return found


def _usage_of(tickets: Sequence[SignedTicket]) -> Usage:
    start = tickets[0].signed_at_ms
    who: dict[Who, int] = {}
    payments: list[Payment] = []
    opened: list[Opening] = []
    for ticket in tickets:
        at = (ticket.signed_at_ms - start) * MILLISECOND
        index = who.setdefault(ticket.who, len(who))
        payments.append((ticket.sequence, at, index, 0, ticket.tickets, ticket.fee, ticket.units))
        if ticket.sequence == 0:
            account_id, user_id, session_id, job_type, app, orchestrator = ticket.who
            opened.append((at, account_id, user_id, session_id, job_type, app, orchestrator, ""))
    return {
        "at": start * MILLISECOND,
        "who": list(who),
        "prices": [FEE_IS_COST],
        "payments": payments,
        "opened": opened,
        "closed": [],
        "told": [(ticket.event_id, ticket.gateway) for ticket in tickets],
    }
