"""Between the bus and metering's use cases."""

from collections.abc import Sequence
from typing import Annotated

from faststream import Context
from faststream.nats import NatsRouter

from contracts.message import LogEntry, LogPage, ReadLog, read_log_subject
from contracts.metering import ListSessions, QueryUsage, SessionPage, UsagePage
from services.metering.application import Metering
from services.metering.entries import read_usage
from services.metering.queries import UsageQueries
from shared.clock import Clock
from shared.inbox import Apply
from shared.log import PublicLog
from shared.store import Effect

SERVICE = "metering"

router = NatsRouter()


def recording(metering: Metering, clock: Clock) -> Apply:
    """What the inbox does with a stretch of the signer's log."""

    def apply(entries: Sequence[LogEntry], done: Effect) -> None:
        span, usage = read_usage(entries)
        metering.record(span, usage, clock.now(), done)

    return apply


@router.subscriber(QueryUsage.subject, queue=SERVICE)
def query_usage(command: QueryUsage, queries: Annotated[UsageQueries, Context()]) -> UsagePage:
    return queries.query_usage(command)


@router.subscriber(ListSessions.subject, queue=SERVICE)
def list_sessions(command: ListSessions, queries: Annotated[UsageQueries, Context()]) -> SessionPage:
    return queries.list_sessions(command)


@router.subscriber(read_log_subject(SERVICE), queue=SERVICE)
def read_log(command: ReadLog, public_log: Annotated[PublicLog, Context()]) -> LogPage:
    return public_log.read(command)
