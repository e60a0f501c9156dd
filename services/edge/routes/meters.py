"""`/v1/meters`: what pushed usage is counted by, for the whole house."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from contracts import meters as contract
from contracts.usage_events import EventType, PropertyName
from services.edge.routes.access import NEEDS_ADMINISTRATOR, TheParts
from services.edge.routes.actors import TheActor
from services.edge.routes.limit_models import Reason
from services.edge.routes.models import Body
from shared.bus import ask

router = APIRouter(prefix="/v1/meters", tags=["Meters"], dependencies=NEEDS_ADMINISTRATOR)

type Name = Annotated[contract.MeterName, Path()]
type Why = Annotated[Reason, Query()]


class MeterToDefine(Body):
    event_type: EventType = Field(description="The type of the events that it counts.")
    aggregation: contract.Aggregation = Field(
        description="`time` sums seconds that ended at the event's time, in the hours they lie in."
    )
    value: PropertyName | None = Field(
        default=None, description="The property of `data` that is summed; none of a count."
    )
    group_by: contract.Groups = Field(
        default=[], description="Properties of `data` that it is counted by, beside account and user."
    )
    filter: contract.Filter = Field(
        default={}, description="By property, the texts one of which it has to be, or it is not counted."
    )

    reason: Reason = contract.UNSPECIFIED


class Meter(BaseModel):
    name: str
    event_type: str
    aggregation: contract.Aggregation
    value: str | None
    group_by: list[str]
    filter: dict[str, list[str]]
    defined_at: datetime = Field(description="It counts what was recorded since then.")
    retired_at: datetime | None = Field(description="It counts nothing since then; what it counted stays.")


class Meters(BaseModel):
    meters: list[Meter]


@router.get("")
async def list_meters(parts: TheParts) -> Meters:
    """List all meters that were ever defined, by name."""
    page = await ask(parts.client, contract.ListMeters(), contract.MeterPage)
    return Meters(meters=[Meter.model_validate(view, from_attributes=True) for view in page.meters])


@router.put("/{meter}")
async def define_meter(meter: Name, body: MeterToDefine, parts: TheParts, actor: TheActor) -> Meter:
    """Count from now on. The same again changes nothing; meters never change."""
    command = contract.DefineMeter(name=meter, actor=actor, **body.model_dump())
    view = await ask(parts.client, command, contract.MeterView)
    return Meter.model_validate(view, from_attributes=True)


@router.delete("/{meter}")
async def retire_meter(
    meter: Name, parts: TheParts, actor: TheActor, reason: Why = contract.UNSPECIFIED
) -> Meter:
    """Count no more, for ever. What was counted can be queried, and the name stays taken."""
    command = contract.RetireMeter(name=meter, actor=actor, reason=reason)
    view = await ask(parts.client, command, contract.MeterView)
    return Meter.model_validate(view, from_attributes=True)
