"""Between the bus and metering's use cases of streams."""

from collections.abc import Sequence
from typing import Annotated

from faststream import Context
from faststream.nats import NatsRouter

from contracts.audit import AuditPage, ReadAudit, read_audit_subject
from contracts.message import LogEntry
from contracts.metered_streams import (
    AssignStream,
    ListMeteredStreams,
    MeteredStreamPage,
    MeteredStreamView,
    ReadMeteredStream,
)
from contracts.webhooks_in import DeliveriesRecorded, RecordDeliveries
from services.metering.deliveries import read_changes, read_delivery
from services.metering.handlers import SERVICE
from services.metering.stream_queries import StreamQueries
from services.metering.streaming import Streaming
from shared.audit import Audit
from shared.clock import Clock
from shared.inbox import Apply
from shared.store import Effect

router = NatsRouter()

type TheStreaming = Annotated[Streaming, Context("streaming")]
type TheQueries = Annotated[StreamQueries, Context("stream_queries")]
type TheClock = Annotated[Clock, Context("clock")]


def following(streaming: Streaming, clock: Clock) -> Apply:
    """What the inbox does with a stretch of quota's log."""

    def apply(entries: Sequence[LogEntry], done: Effect) -> None:
        now = clock.now()
        streaming.follow(read_changes(entries, now), now, done)

    return apply


@router.subscriber(RecordDeliveries.subject, queue=SERVICE)
def record_deliveries(
    command: RecordDeliveries, streaming: TheStreaming, clock: TheClock
) -> DeliveriesRecorded:
    arrivals = [read_delivery(told) for told in command.deliveries]
    recorded = streaming.record(arrivals, clock.now())
    return DeliveriesRecorded(recorded=recorded, repeated=len(arrivals) - recorded)


@router.subscriber(ListMeteredStreams.subject, queue=SERVICE)
def list_streams(command: ListMeteredStreams, queries: TheQueries) -> MeteredStreamPage:
    return queries.list_streams(command)


@router.subscriber(ReadMeteredStream.subject, queue=SERVICE)
def read_stream(command: ReadMeteredStream, queries: TheQueries) -> MeteredStreamView:
    return queries.read_stream(command)


@router.subscriber(read_audit_subject(SERVICE), queue=SERVICE)
def read_audit(command: ReadAudit, audit: Annotated[Audit, Context()]) -> AuditPage:
    return audit.read(command)


@router.subscriber(AssignStream.subject, queue=SERVICE)
def assign_stream(
    command: AssignStream, streaming: TheStreaming, queries: TheQueries, clock: TheClock
) -> MeteredStreamView:
    streaming.assign(
        command.account_id,
        command.stream_id,
        command.user_id,
        actor=command.actor,
        reason=command.reason,
        now=clock.now(),
    )
    return queries.read_stream(ReadMeteredStream(account_id=command.account_id, stream_id=command.stream_id))
