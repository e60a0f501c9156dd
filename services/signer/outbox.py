"""The signer's stored events as its public ones: the only place where one becomes the other."""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from threading import RLock
from typing import Any
from uuid import UUID

from eventsourcing.persistence import Notification, StoredEvent
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
from shared.store import EventSourced, ThinRecorder

FACTS_MAX = 60_000  # kept of all sessions, of about a kilobyte each
TELLING = (
    PaymentSession.Named.TOPIC,
    PaymentSession.Opened.TOPIC,
    PaymentSession.UseChanged.TOPIC,
    PaymentSession.QuoteAccepted.TOPIC,
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a payment's public event says beside the stored one: the session's standing data."""

    named: dict[str, Any] = field(default_factory=dict)
    opened: dict[str, Any] = field(default_factory=dict)
    quote: dict[str, Any] = field(default_factory=dict)

    def after(self, topic: str, state: bytes) -> "Facts":
        stored = from_json(state)
        match topic:
            case PaymentSession.Named.TOPIC:
                return replace(self, named={name: stored[name] for name in ("account_id", "session_id")})
            case PaymentSession.Opened.TOPIC:
                return replace(self, opened=stored)
            case PaymentSession.UseChanged.TOPIC:
                return replace(
                    self, opened=self.opened | {name: stored[name] for name in ("key_id", "capability")}
                )
        return replace(self, quote=stored)


class Story:
    """A session's facts, at each version that changed them, as far as it was read."""

    def __init__(self) -> None:
        self.read_to = 0
        self._versions = [0]
        self._facts = [Facts()]

    def __len__(self) -> int:
        return len(self._facts)

    def learn(self, version: int, topic: str, state: bytes) -> None:
        if topic in TELLING:
            self._versions.append(version)
            self._facts.append(self._facts[-1].after(topic, state))

    def at(self, version: int) -> Facts:
        return self._facts[bisect_right(self._versions, version) - 1]


class SignerOutbox:
    """Stored payments are small; what stands for the whole session is added here.

    Facts are read from the session's own events once and kept, as they stood at each version: readers
    of the log are at different places of it, and each is told the same.
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
        self._stories: OrderedDict[UUID, Story] = OrderedDict()
        self._kept = 0  # facts of all of them
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

    def forget(self) -> None:
        """Drop what was read: the log went back, and what is there now may be something else."""
        with self._lock:
            self._stories.clear()
            self._kept = 0

    def _facts_at(self, notification: Notification) -> Facts:
        """The session's facts up to this event; read on from where the kept ones stop."""
        session_uuid, version = notification.originator_id, notification.originator_version
        assert isinstance(session_uuid, UUID)
        story = self._stories.pop(session_uuid, None)
        if story is None:
            story = Story()
        else:
            self._kept -= len(story)
        self._read_on(story, notification, session_uuid)
        self._stories[session_uuid] = story  # the last that is dropped
        self._kept += len(story)
        while self._kept > FACTS_MAX and len(self._stories) > 1:
            self._kept -= len(self._stories.popitem(last=False)[1])
        return story.at(version)

    def _read_on(self, story: Story, notification: Notification, session_uuid: UUID) -> None:
        version = notification.originator_version
        if story.read_to == version - 1:
            story.learn(version, notification.topic, notification.state)
        elif story.read_to < version:
            for event in self._telling(session_uuid, story.read_to, version):
                story.learn(event.originator_version, event.topic, event.state)
        story.read_to = max(story.read_to, version)

    def _telling(self, session_uuid: UUID, after: int, upto: int) -> Sequence[StoredEvent]:
        if isinstance(self._recorder, ThinRecorder):
            return self._recorder.of_topics(session_uuid, TELLING, gt=after, lte=upto)
        return self._recorder.select_events(session_uuid, gt=after, lte=upto)

    def _fence(self, notification: Notification, stored: dict[str, Any]) -> FenceRaised:
        [opened] = self._recorder.select_events(notification.originator_id, limit=1)
        payer = from_json(opened.state)["payer"]
        return FenceRaised(payer=payer, l1_block=stored["l1_block"], reason=stored["reason"])


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
