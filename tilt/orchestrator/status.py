"""All that tests and people want to see, as one JSON document."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from tilt.orchestrator.addresses import checksummed
from tilt.orchestrator.control import terms_document
from tilt.orchestrator.ledger import Account
from tilt.orchestrator.orchestrator import Orchestrator
from tilt.orchestrator.sessions import Session


def status_document(orchestrator: Orchestrator, limit: int | None) -> dict[str, Any]:
    """Show the last `limit` records of each list, or all of them."""
    journal, sessions = orchestrator.journal, orchestrator.sessions
    return {
        "orchestrator": checksummed(orchestrator.quotes.recipient),
        "url": orchestrator.url,
        "tls_url": orchestrator.tls_url,
        "head": _head(orchestrator),
        "terms": terms_document(orchestrator),
        **_offered(orchestrator),
        **_wanted(orchestrator),
        "sessions": [_session(orchestrator, session) for session in sessions.active.values()],
        "released": [_session(orchestrator, session) for session in _last(sessions.released, limit)],
        "manifests": _manifests(orchestrator, limit),
        "challenges": [asdict(challenge) for challenge in _last(journal.challenges, limit)],
        "accepted": [record.to_json() for record in _last(journal.accepted, limit)],
        "rejected": [record.to_json() for record in _last(journal.rejected, limit)],
        "ignored": [asdict(payment) for payment in _last(journal.ignored, limit)],
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


def _offered(orchestrator: Orchestrator) -> dict[str, Any]:
    offer, sessions = orchestrator.offer, orchestrator.sessions
    return {
        "base_price": asdict(offer.base_price),
        "runners": [
            {**runner.model_dump(), "capacity_used": sessions.in_use(runner.id)}
            for runner in orchestrator.runners
        ],
        "models": [
            {**model.model_dump(), "capacity_used": sessions.in_use(model.key)}
            for model in offer.models.values()
        ],
        "version": offer.version,
        "mandatories": offer.mandatories,
        "capped": orchestrator.is_capped,
    }


def _wanted(orchestrator: Orchestrator) -> dict[str, Any]:
    """Show what tests have planned, and how much of it has happened."""
    oddities = orchestrator.oddities
    quote = oddities.wanted
    return {
        "quote": None if quote is None else {**quote.model_dump(), "quoted": oddities.quoted},
        "repeat_402": orchestrator.repeats.to_json(),
        "faults": [plan.to_json() for plan in orchestrator.faults.plans],
    }


def _session(orchestrator: Orchestrator, session: Session) -> dict[str, Any]:
    account = orchestrator.ledger.find(session.sender, session.session_id)
    return {
        "session_id": session.session_id,
        "sender": checksummed(session.sender),
        "place": session.place,
        "balance": str(account.balance if account else 0),
        "price": str(session.price),
        "release_reason": session.release_reason,
    }


def _manifests(orchestrator: Orchestrator, limit: int | None) -> list[dict[str, Any]]:
    sessions = [*orchestrator.sessions.released, *orchestrator.sessions.active.values()]
    latest = {(session.sender, session.session_id): session for session in sessions}
    return [
        _manifest(account, latest.get((account.sender, account.manifest_id)))
        for account in _last(orchestrator.ledger, limit)
    ]


def _manifest(account: Account, session: Session | None) -> dict[str, Any]:
    """Tell what was paid and used under a manifest; not every one has a session of ours."""
    return {
        "manifest_id": account.manifest_id,
        "sender": checksummed(account.sender),
        "kind": account.kind,
        "place": session.place if session else None,
        "price": None if account.price is None else str(account.price),
        "payments": account.payments,
        "tickets": account.tickets,
        "units": account.units,
        "credited": str(account.credited),
        "debited": str(account.debited),
        "balance": str(account.balance),
        "active": session is not None and session.release_reason is None,
        "release_reason": session.release_reason if session else None,
    }


def _counters(orchestrator: Orchestrator) -> dict[str, int]:
    winners = list(orchestrator.winners)
    return {
        **asdict(orchestrator.journal.counters),
        "winners": len(winners),
        "winners_redeemed": sum(winner.is_redeemed for winner in winners),
    }
