"""What others may read of metering's log."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

from eventsourcing.persistence import Notification

from contracts.message import Event
from contracts.metered_streams import StreamAssigned, StreamClosed, StreamEnd
from contracts.metering import UsageClosed, UsageRecorded
from contracts.signed_tickets import SignedPayment, SignedTicketsRecorded
from services.metering.application import Metering
from services.metering.domain.meters import Meters
from services.metering.domain.period import UsagePeriod
from services.metering.domain.signed_tickets import paid_of
from services.metering.domain.stream import Stream, moment_of
from services.metering.domain.usage import UsageBatch
from services.metering.domain.usage_events import UsageEventBatch
from services.metering.usage_event_outbox import told_of_events


class MeteringOutbox:
    topics: Sequence[str] = (
        UsageBatch.Recorded.TOPIC,
        Stream.Assigned.TOPIC,
        UsagePeriod.Closed.TOPIC,
        Stream.Closed.TOPIC,
        UsageEventBatch.Recorded.TOPIC,
        Meters.Defined.TOPIC,
        Meters.Retired.TOPIC,
    )

    def __init__(self, metering: Metering) -> None:
        self._mapper = metering.mapper

    def to_public(self, notification: Notification) -> tuple[Event, datetime]:
        stored = self._mapper.to_domain_event(notification)
        told = public_of(stored)
        assert told is not None
        return told, cast("Any", stored).timestamp


def public_of(stored: object) -> Event | None:
    """What is told of a stored event; None where nothing is."""
    if isinstance(stored, UsageEventBatch.Recorded | Meters.Defined | Meters.Retired):
        return told_of_events(stored)
    if isinstance(stored, Stream.Closed):
        return StreamClosed(
            account_id=stored.account_id,
            stream_id=stored.stream_id,
            user_id=stored.user_id or None,
            app=stored.app,
            began_at=moment_of(stored.began),
            ended_at=moment_of(stored.ended),
            elapsed_ms=stored.ended - stored.began,
            because=cast("StreamEnd", stored.because),
        )
    if isinstance(stored, Stream.Assigned):
        return StreamAssigned(
            account_id=stored.account_id,
            stream_id=stored.stream_id,
            user_id=stored.user_id,
            actor=stored.actor,
            reason=stored.reason,
        )
    if isinstance(stored, UsagePeriod.Closed):
        return UsageClosed(
            account_id=stored.account_id, until=stored.until_at, actor=stored.actor, reason=stored.reason
        )
    if not isinstance(stored, UsageBatch.Recorded):
        return None
    return _signed_tickets(stored) if "told" in stored.usage else _usage(stored)


def _signed_tickets(stored: UsageBatch.Recorded) -> Event:
    payments = [
        SignedPayment(
            user_id=paid.user_id or None,
            state_id=paid.state_id,
            sequence=paid.sequence,
            fee=paid.fee,
            signed_at=paid.signed_at,
        )
        for paid in paid_of(stored.usage)
    ]
    return SignedTicketsRecorded(account_id=stored.usage["who"][0][0], payments=payments)


def _usage(stored: UsageBatch.Recorded) -> Event:
    return UsageRecorded(
        from_position=stored.first,
        to_position=stored.last,
        records=stored.records,
        cost=stored.cost,
        publisher=stored.publisher,
        from_epoch=stored.epoch,
    )
