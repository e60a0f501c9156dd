"""What others may read of pushed usage and meters."""

from typing import cast

from contracts.message import Event
from contracts.meters import Aggregation, MeterDefined, MeterRetired
from contracts.usage_events import UsageEventsRecorded
from services.metering.domain.meters import Meters
from services.metering.domain.usage import moment
from services.metering.domain.usage_events import UsageEventBatch


def told_of_events(stored: UsageEventBatch.Recorded | Meters.Defined | Meters.Retired) -> Event:
    match stored:
        case UsageEventBatch.Recorded():
            return _recorded(stored)
        case Meters.Retired():
            return MeterRetired(name=stored.name, actor=stored.actor, reason=stored.reason)
    return MeterDefined(
        name=stored.name,
        event_type=stored.event_type,
        aggregation=cast("Aggregation", stored.aggregation),
        value=stored.value or None,
        group_by=list(stored.group_by),
        filter={name: list(texts) for name, texts in stored.filter.items()},
        actor=stored.actor,
        reason=stored.reason,
    )


def _recorded(stored: UsageEventBatch.Recorded) -> UsageEventsRecorded:
    usage = stored.usage
    after = [record[4] for record in usage["records"]] + [each[6] for each in usage["corrections"]]
    return UsageEventsRecorded(
        account_id=stored.account_id,
        records=len(usage["records"]),
        corrections=len(usage["corrections"]),
        from_at=moment(usage["at"] + min(after)),
        to_at=moment(usage["at"] + max(after)),
    )
