"""What others say of streams, as metering's use cases take it: deliveries, and quota's log."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial

from contracts.message import LogEntry
from contracts.stream_starts import StreamStarted, StreamStopped
from contracts.webhooks_in import Delivery as ToldDelivery
from services.metering.domain.known import Delivery
from services.metering.domain.stream import Stream, milliseconds
from services.metering.streaming import Arrival, Change

PUBLISHER = "quota"
READS = (StreamStarted.subject, StreamStopped.subject)


def read_delivery(told: ToldDelivery) -> Arrival:
    """No time lies after the moment it was received: the sender's clock may be ahead."""
    received = milliseconds(told.received_at)
    delivery = Delivery(
        hook_id=told.hook_id,
        webhook_id=told.webhook_id,
        event_id=told.event_id,
        event=told.event,
        at=min(told.created_at_ms, received),
        seen=min(told.last_seen_ms, received) if told.last_seen_ms is not None else None,
        source=told.source_segments_duration_ms,
        user_id=told.user_id or "",
        user_from=told.user_from or "creator_id",
        received=received,
    )
    return Arrival(told.account_id, told.stream_id, delivery, told.body, told.received_at)


def read_changes(entries: Sequence[LogEntry], now: datetime) -> list[tuple[str, str, Change]]:
    """What a stretch of quota's log changes in which stream; raises ValueError for what cannot be so."""
    return [_change(entry, now) for entry in entries]


def _change(entry: LogEntry, now: datetime) -> tuple[str, str, Change]:
    place = f"{entry.epoch}:{entry.position}"
    if entry.subject == StreamStarted.subject:
        started = StreamStarted.model_validate(entry.event)
        begin = partial(
            Stream.begin, place=place, at=entry.at, user_id=started.user_id or "", app=started.app, now=now
        )
        return started.account_id, started.stream_id, begin
    stopped = StreamStopped.model_validate(entry.event)
    # Where nobody told the end, time counts up to the last heartbeat, not until the lease was over.
    at = min(stopped.alive_at or entry.at, entry.at)
    end = partial(Stream.end, place=place, at=at, because=stopped.because, now=now)
    return stopped.account_id, stopped.stream_id, end
