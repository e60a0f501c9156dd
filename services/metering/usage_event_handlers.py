"""Between the bus and metering's use cases of pushed usage and meters."""

from typing import Annotated

from faststream import Context
from faststream.nats import NatsRouter

from contracts.meters import DefineMeter, ListMeters, MeterPage, MeterView, RetireMeter
from contracts.usage_events import EventOutcome, RecordUsageEvents, UsageEvent, UsageEventsAnswered
from services.metering.domain.counting import Data, billionths
from services.metering.domain.meters import Known, Meter
from services.metering.handlers import SERVICE
from services.metering.meters import MeterBook
from services.metering.usage_events import RECORDED, REPEATED, Arrival, Outcome, UsageEvents
from shared.clock import Clock

# What nearly all are answered with.
TOLD = {outcome: EventOutcome(status=outcome.status) for outcome in (RECORDED, REPEATED)}

router = NatsRouter()

type TheUsageEvents = Annotated[UsageEvents, Context("usage_events")]
type TheMeters = Annotated[MeterBook, Context("meters")]
type TheClock = Annotated[Clock, Context("clock")]


@router.subscriber(RecordUsageEvents.subject, queue=SERVICE)
def record_usage_events(
    command: RecordUsageEvents, usage_events: TheUsageEvents, clock: TheClock
) -> UsageEventsAnswered:
    arrivals = [read_event(told) for told in command.events]
    outcomes = usage_events.record(arrivals, clock.now())
    return UsageEventsAnswered(outcomes=[_told(outcome) for outcome in outcomes])


@router.subscriber(DefineMeter.subject, queue=SERVICE)
def define_meter(command: DefineMeter, meters: TheMeters, clock: TheClock) -> MeterView:
    meter = Meter.of(
        command.name,
        command.event_type,
        command.aggregation,
        command.value or "",
        command.group_by,
        command.filter,
    )
    return _view(meters.define(meter, actor=command.actor, reason=command.reason, now=clock.now()))


@router.subscriber(RetireMeter.subject, queue=SERVICE)
def retire_meter(command: RetireMeter, meters: TheMeters, clock: TheClock) -> MeterView:
    return _view(meters.retire(command.name, actor=command.actor, reason=command.reason, now=clock.now()))


@router.subscriber(ListMeters.subject, queue=SERVICE)
def list_meters(_: ListMeters, meters: TheMeters) -> MeterPage:
    return MeterPage(meters=[_view(known) for known in meters.known()])


def read_event(told: UsageEvent) -> Arrival:
    data: Data = {**told.texts, **{name: billionths(number) for name, number in told.numbers.items()}}
    return Arrival(
        account_id=told.account_id,
        source=told.source,
        event_id=told.event_id,
        event_type=told.type,
        user_id=told.user_id or "",
        own_only=told.own_only,
        at=told.at,
        data=None if told.voids else data,
        corrects=told.corrects,
    )


def _told(outcome: Outcome) -> EventOutcome:
    if (told := TOLD.get(outcome)) is not None:
        return told
    return EventOutcome.model_validate({name: value or None for name, value in outcome._asdict().items()})


def _view(known: Known) -> MeterView:
    meter = known.meter
    return MeterView(
        name=meter.name,
        event_type=meter.event_type,
        aggregation=meter.aggregation.value,
        value=meter.value or None,
        group_by=list(meter.group_by),
        filter={name: list(texts) for name, texts in meter.filter.items()},
        defined_at=known.defined_at,
        retired_at=known.retired_at,
    )
