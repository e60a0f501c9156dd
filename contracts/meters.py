"""Meters: what pushed usage is counted by. House-wide, defined by administrators, and never changed."""

from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from contracts.limits import Actor, Reason
from contracts.message import Command, Event, Message
from contracts.usage_events import PROPERTIES_MAX, EventType, PropertyName

GROUPS_MAX = 4
FILTER_VALUES_MAX = 50
UNSPECIFIED = "unspecified"

type Aggregation = Literal["sum", "count", "max", "unique", "time"]
type MeterName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
type FilterValue = Annotated[str, StringConstraints(pattern=r"^[^\x00]{0,256}$")]
type Groups = Annotated[list[PropertyName], Field(max_length=GROUPS_MAX)]
type AllowedValues = Annotated[list[FilterValue], Field(min_length=1, max_length=FILTER_VALUES_MAX)]
type Filter = Annotated[dict[PropertyName, AllowedValues], Field(max_length=PROPERTIES_MAX)]


class DefineMeter(Command):
    """Count from now on. The same again changes nothing; another definition is refused.

    Refused with `bad_meter`, `meter_differs`, `meter_retired` or `too_many_meters`.
    """

    subject: ClassVar[str] = "cmd.metering.define_meter.v1"

    name: MeterName
    event_type: EventType
    aggregation: Aggregation
    value: PropertyName | None = None  # what is summed; none of a count
    group_by: Groups = Field(default_factory=list)
    filter: Filter = Field(default_factory=dict)  # by property, what its text may be
    actor: Actor
    reason: Reason = UNSPECIFIED


class RetireMeter(Command):
    """Count no more; what was counted stays. Refused with `meter_not_found`; again: the same."""

    subject: ClassVar[str] = "cmd.metering.retire_meter.v1"

    name: MeterName
    actor: Actor
    reason: Reason = UNSPECIFIED


class ListMeters(Command):
    subject: ClassVar[str] = "cmd.metering.list_meters.v1"


class MeterView(Message):
    kind: Literal["meter"] = "meter"
    name: str
    event_type: str
    aggregation: Aggregation
    value: str | None
    group_by: list[str]
    filter: dict[str, list[str]]
    defined_at: datetime
    retired_at: datetime | None


class MeterPage(Message):
    """All there are, a hundred at most, by name."""

    kind: Literal["meter_page"] = "meter_page"
    meters: list[MeterView]


class MeterDefined(Event):
    subject: ClassVar[str] = "evt.metering.meter_defined.v1"

    name: str
    event_type: str
    aggregation: Aggregation
    value: str | None
    group_by: list[str]
    filter: dict[str, list[str]]
    actor: str
    reason: str = UNSPECIFIED  # none was told before reasons were kept


class MeterRetired(Event):
    subject: ClassVar[str] = "evt.metering.meter_retired.v1"

    name: str
    actor: str
    reason: str = UNSPECIFIED
