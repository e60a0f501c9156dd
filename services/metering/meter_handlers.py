"""Between the bus and what meters counted; and the closing of hours."""

from typing import Annotated

from faststream import Context
from faststream.nats import NatsRouter

from contracts.metering import ClosedUsage, CloseUsage, MeterPage, QueryMeter
from services.metering.closing import Closing
from services.metering.handlers import SERVICE
from services.metering.meter_queries import MeterQueries
from shared.clock import Clock

router = NatsRouter()


@router.subscriber(QueryMeter.subject, queue=SERVICE)
def query_meter(command: QueryMeter, queries: Annotated[MeterQueries, Context("meter_queries")]) -> MeterPage:
    return queries.query(command)


@router.subscriber(CloseUsage.subject, queue=SERVICE)
def close_usage(
    command: CloseUsage,
    closing: Annotated[Closing, Context("closing")],
    clock: Annotated[Clock, Context("clock")],
) -> ClosedUsage:
    closed_until = closing.close(
        command.account_id, command.until, actor=command.actor, reason=command.reason, now=clock.now()
    )
    return ClosedUsage(account_id=command.account_id, closed_until=closed_until)
