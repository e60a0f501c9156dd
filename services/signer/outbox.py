"""The signer's stored events as its public ones: the only place where one becomes the other."""

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from threading import RLock
from typing import Any
from uuid import UUID

from eventsourcing.persistence import Notification
from pydantic_core import from_json

from contracts.message import Event
from contracts.signer import (
    FenceRaised,
    PaymentRefused,
    PaymentSigned,
    SessionClosed,
    SessionOpened,
    TicketRecovered,
)
from services.signer.domain.fence import Fence
from services.signer.domain.recovered import RecoveredTickets
from services.signer.domain.session import PaymentSession
from shared.store import EventSourced

SESSIONS_MAX = 20_000


@dataclass(slots=True)
class Facts:
    """What a payment's public event says beside the stored one: the session's standing data."""

    named: dict[str, Any]
    opened: dict[str, Any]
    quote: dict[str, Any]
    version: int


class SignerOutbox:
    """Stored payments are small; what stands for the whole session is added here.

    Facts are read from the session's own events once and kept; entries come in log order, and each
    is told with the facts as they stood at its version, so it is the same whoever tells it.
    """

    topics = (
        PaymentSession.Opened.TOPIC,
        PaymentSession.PaymentSigned.TOPIC,
        PaymentSession.PaymentRefused.TOPIC,
        PaymentSession.Closed.TOPIC,
        Fence.Raised.TOPIC,
        RecoveredTickets.Recovered.TOPIC,
    )

    def __init__(self, application: EventSourced) -> None:
        self._recorder = application.recorder
        self._facts: OrderedDict[UUID, Facts] = OrderedDict()
        self._lock = RLock()  # a relay and a reader of the log may ask at the same time

    def to_public(self, notification: Notification) -> tuple[Event, datetime]:
        stored = from_json(notification.state)
        at = datetime.fromisoformat(stored["timestamp"])
        if notification.topic == Fence.Raised.TOPIC:
            return self._fence(notification, stored), at
        if notification.topic == RecoveredTickets.Recovered.TOPIC:
            return TicketRecovered.model_validate(stored), at
        with self._lock:
            return self._session_event(notification, stored), at

    def _session_event(self, notification: Notification, stored: dict[str, Any]) -> Event:
        facts = self._facts_at(notification)
        match notification.topic:
            case PaymentSession.PaymentSigned.TOPIC:
                return _payment(facts, stored)
            case PaymentSession.Opened.TOPIC:
                return _opened(facts)
            case PaymentSession.PaymentRefused.TOPIC:
                named, status, reason = facts.named, stored["status"], stored["reason"]
                return PaymentRefused(**named, status=status, reason=reason)
            case _:
                spent, ask_number = stored["spent"], stored["ask_number"]
                return SessionClosed(**facts.named, spent=spent, ask_number=ask_number)

    def _facts_at(self, notification: Notification) -> Facts:
        """The session's facts up to this event; read on from where the kept ones stop."""
        session_uuid, version = notification.originator_id, notification.originator_version
        assert isinstance(session_uuid, UUID)
        facts = self._facts.get(session_uuid)
        if facts is None or facts.version > version:
            facts = Facts({}, {}, {}, 0)
        if facts.version < version - 1:
            for event in self._recorder.select_events(session_uuid, gt=facts.version, lte=version):
                _learn(facts, event.topic, event.state)
        elif facts.version < version:
            _learn(facts, notification.topic, notification.state)
        facts.version = version
        self._facts[session_uuid] = facts
        self._facts.move_to_end(session_uuid)
        if len(self._facts) > SESSIONS_MAX:
            self._facts.popitem(last=False)
        return facts

    def _fence(self, notification: Notification, stored: dict[str, Any]) -> FenceRaised:
        [opened] = self._recorder.select_events(notification.originator_id, limit=1)
        payer = from_json(opened.state)["payer"]
        return FenceRaised(payer=payer, l1_block=stored["l1_block"], reason=stored["reason"])


def _learn(facts: Facts, topic: str, state: bytes) -> None:
    match topic:
        case PaymentSession.Named.TOPIC:
            stored = from_json(state)
            facts.named = {name: stored[name] for name in ("account_id", "session_id")}
        case PaymentSession.Opened.TOPIC:
            facts.opened = from_json(state)
        case PaymentSession.UseChanged.TOPIC:
            stored = from_json(state)
            facts.opened |= {name: stored[name] for name in ("key_id", "capability")}
        case PaymentSession.QuoteAccepted.TOPIC:
            facts.quote = from_json(state)


def _opened(facts: Facts) -> SessionOpened:
    opened = facts.opened
    return SessionOpened(
        **facts.named,
        user_id=opened["user_id"],
        key_id=opened["key_id"],
        stream_id=opened["stream_id"],
        app=opened["app"],
        job_type=opened["job_type"],
        orchestrator=opened["orchestrator"],
        capability=opened.get("capability", ""),
    )


def _payment(facts: Facts, stored: dict[str, Any]) -> PaymentSigned:
    """Built unvalidated: every value was stored by us, and this runs once per payment."""
    opened, quote = facts.opened, facts.quote
    return PaymentSigned.model_construct(
        **facts.named,
        user_id=opened["user_id"],
        app=opened["app"],
        job_type=opened["job_type"],
        payer=opened["payer"],
        price_per_unit=opened["price_per_unit"],
        pixels_per_unit=opened["pixels_per_unit"],
        recipient=quote["recipient"],
        face_value=quote["face_value"],
        win_prob=hex(quote["win_prob"]),
        creation_round=quote["creation_round"],
        recipient_rand_hash=quote["recipient_rand_hash"],
        first_nonce=stored["first_nonce"],
        tickets=stored["tickets"],
        cost=stored["cost"],
        units=stored["units"],
        key_id=opened["key_id"],
        capability=opened.get("capability", ""),
    )
