"""What others may read of metering's log."""

from collections.abc import Sequence
from datetime import datetime

from eventsourcing.persistence import Notification

from contracts.message import Event
from contracts.metered_streams import StreamAssigned
from contracts.metering import UsageRecorded
from services.metering.application import Metering
from services.metering.domain.meters import Meters
from services.metering.domain.stream import Stream
from services.metering.domain.usage import UsageBatch
from services.metering.domain.usage_events import UsageEventBatch
from services.metering.usage_event_outbox import told_of_events

type Public = (
    UsageBatch.Recorded | Stream.Assigned | UsageEventBatch.Recorded | Meters.Defined | Meters.Retired
)
PUBLIC: tuple[type[Public], ...] = (
    UsageBatch.Recorded,
    Stream.Assigned,
    UsageEventBatch.Recorded,
    Meters.Defined,
    Meters.Retired,
)


class MeteringOutbox:
    topics: Sequence[str] = tuple(each.TOPIC for each in PUBLIC)

    def __init__(self, metering: Metering) -> None:
        self._mapper = metering.mapper

    def to_public(self, notification: Notification) -> tuple[Event, datetime]:
        stored = self._mapper.to_domain_event(notification)
        assert isinstance(stored, PUBLIC)
        return _told(stored), stored.timestamp


def _told(stored: Public) -> Event:
    if isinstance(stored, UsageEventBatch.Recorded | Meters.Defined | Meters.Retired):
        return told_of_events(stored)
    if isinstance(stored, Stream.Assigned):
        return StreamAssigned(
            account_id=stored.account_id,
            stream_id=stored.stream_id,
            user_id=stored.user_id,
            actor=stored.actor,
            reason=stored.reason,
        )
    return UsageRecorded(
        from_position=stored.first,
        to_position=stored.last,
        records=stored.records,
        cost=stored.cost,
    )
