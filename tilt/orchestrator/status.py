"""All that tests and people want to see, as one JSON document."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from tilt.orchestrator.addresses import checksummed
from tilt.orchestrator.control import terms_document
from tilt.orchestrator.orchestrator import Orchestrator
from tilt.orchestrator.sessions import Session


def status_document(orchestrator: Orchestrator, limit: int | None) -> dict[str, Any]:
    """Show the last `limit` records of each list, or all of them."""
    journal = orchestrator.journal
    return {
        "orchestrator": checksummed(orchestrator.quotes.recipient),
        "url": orchestrator.quotes.url,
        "head": _head(orchestrator),
        "terms": terms_document(orchestrator.quotes.terms),
        "sessions": _sessions(orchestrator, orchestrator.sessions.active.values()),
        "released": _sessions(orchestrator, orchestrator.sessions.released),
        "accepted": [record.to_json() for record in _last(journal.accepted, limit)],
        "rejected": [record.to_json() for record in _last(journal.rejected, limit)],
        "refused": [asdict(payment) for payment in _last(journal.refused, limit)],
        "winners": [winner.to_json() for winner in _last(orchestrator.winners, limit)],
        "counters": _counters(orchestrator),
    }


def _last[T](records: Iterable[T], limit: int | None) -> list[T]:
    everything = list(records)
    return everything if limit is None else everything[max(0, len(everything) - limit) :]


def _head(orchestrator: Orchestrator) -> dict[str, Any] | None:
    head = orchestrator.view.last_head
    if head is None:
        return None
    return {
        "l1_block": head.l1_block,
        "last_initialized_round": head.last_initialized_round,
        "recipient_is_active": head.recipient_is_active,
    }


def _sessions(orchestrator: Orchestrator, sessions: Iterable[Session]) -> list[dict[str, Any]]:
    return [_session(orchestrator, session) for session in sessions]


def _session(orchestrator: Orchestrator, session: Session) -> dict[str, Any]:
    account = orchestrator.ledger.account(session.sender, session.session_id)
    return {
        "session_id": session.session_id,
        "sender": checksummed(session.sender),
        "balance": str(account.balance),
        "price": None if account.price is None else str(account.price),
        "release_reason": session.release_reason,
    }


def _counters(orchestrator: Orchestrator) -> dict[str, int]:
    journal = orchestrator.journal
    winners = list(orchestrator.winners)
    return {
        "tickets_accepted": journal.tickets_accepted,
        "tickets_rejected": journal.tickets_rejected,
        "payments_accepted": journal.payments_accepted,
        "payments_refused": journal.payments_refused,
        "winners": len(winners),
        "winners_redeemed": sum(winner.is_redeemed for winner in winners),
    }
