"""A session as a person reads it: where it stands, and in words what happened."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from uuid import UUID

from eventsourcing.domain import DomainEventProtocol

from contracts.signer import SessionView, TimelineEntry
from services.signer.application import Signing
from services.signer.domain.session import PaymentSession
from services.signer.state import go_time

ENTRIES_MAX = 200

type StoredEvent = DomainEventProtocol[UUID]


def view(signing: Signing, account_id: str, session_id: str) -> SessionView:
    """Raises SessionNotFound, also for another account's session."""
    session = signing.session(account_id, session_id)
    opened = session.opened_at is not None
    newest = list(signing.events.get(session.id, desc=True, limit=ENTRIES_MAX))[::-1]
    return SessionView(
        session_id=session.session_id,
        account_id=session.account_id,
        user_id=session.user_id if opened else None,
        stream_id=session.stream_id if opened else None,
        key_id=session.key_id if opened else "",
        payer=session.payer if opened else "",
        manifest_id=next(iter(session.manifests), ""),
        app=session.app if opened else "",
        job_type=session.job_type if opened else "",
        orchestrator=session.orchestrator if opened else "",
        recipient=session.recipient if session.paid else "",
        closed=session.closed,
        payments=session.payments if opened else 0,
        tickets=session.tickets if opened else 0,
        cost_wei=session.spent,
        allowance_left_wei=session.allowance_left,
        summary=_summary(session, newest),
        timeline=list(_timeline(newest)),
    )


def _summary(session: PaymentSession, events: Sequence[StoredEvent]) -> str:
    """Where it stands, in a sentence: why did my stream stop?"""
    if session.opened_at is None:
        return "Closed before it opened: quota took back an allowance that was never used."
    paid = f"Last paid at {go_time(session.last_at)}." if session.payments else "Never paid."
    refusals = [event for event in events if isinstance(event, PaymentSession.PaymentRefused)]
    if session.refused_at and refusals:
        last = refusals[-1]
        return f"{paid} Since then refused with {last.status} ({last.reason}): {last.message}"
    if session.closed:
        return f"{paid} Closed: nothing was asked for a while, or the account was withdrawn."
    return f"{paid} Nothing was refused since."


def _timeline(events: Sequence[StoredEvent]) -> Iterator[TimelineEntry]:
    """The last events, oldest first."""
    for stored in events:
        if (text := _text(stored)) is not None:
            at: datetime = stored.timestamp  # type: ignore[attr-defined] # every event of ours has one
            yield TimelineEntry(at=at, event=type(stored).__name__, text=text)


def _text(stored: StoredEvent) -> str | None:
    text = None
    match stored:
        case PaymentSession.Opened():
            text = f"opened with {stored.orchestrator} by key {stored.key_id}"
        case PaymentSession.UseChanged():
            text = f"from here on key {stored.key_id} pays, for {stored.capability or 'no capability'}"
        case PaymentSession.Adopted():
            text = f"taken over from another signer, after its payment {stored.sequence}"
        case PaymentSession.QuoteAccepted():
            text = f"new ticket params of {stored.recipient}, face value {stored.face_value} wei"
        case PaymentSession.AllowanceGranted():
            text = f"quota granted {stored.amount} wei"
        case PaymentSession.PaymentSigned():
            again = "; the reply before it was lost" if stored.lost else ""
            text = f"{stored.tickets} tickets signed for {stored.units} units at {stored.cost} wei{again}"
        case PaymentSession.PaymentRefused():
            text = f"refused with {stored.status} ({stored.reason}): {stored.message}"
        case PaymentSession.Closed():
            text = f"closed with {stored.spent} wei spent; what was granted beyond is given back"
    return text
