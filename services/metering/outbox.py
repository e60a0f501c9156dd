"""What others may read of metering's log."""

from collections.abc import Sequence
from datetime import datetime

from eventsourcing.persistence import Notification

from contracts.metering import UsageRecorded
from services.metering.application import Metering
from services.metering.domain.usage import UsageBatch


class MeteringOutbox:
    topics: Sequence[str] = (UsageBatch.Recorded.TOPIC,)

    def __init__(self, metering: Metering) -> None:
        self._mapper = metering.mapper

    def to_public(self, notification: Notification) -> tuple[UsageRecorded, datetime]:
        recorded = self._mapper.to_domain_event(notification)
        assert isinstance(recorded, UsageBatch.Recorded)
        event = UsageRecorded(
            from_position=recorded.first,
            to_position=recorded.last,
            records=recorded.records,
            cost=recorded.cost,
        )
        return event, recorded.timestamp
