"""`/v1/plans`: limits under a name, for all accounts that are on it."""

from typing import Annotated

from fastapi import APIRouter, Path

from contracts import limits as contract
from services.edge.problems import Refused
from services.edge.routes import limit_models as models
from services.edge.routes.access import NEEDS_ADMINISTRATOR, TheParts
from services.edge.routes.actors import TheActor
from shared.bus import ask

router = APIRouter(prefix="/v1/plans", tags=["Plans"], dependencies=NEEDS_ADMINISTRATOR)

type PathName = Annotated[models.PlanName, Path()]


@router.get("")
async def list_plans(parts: TheParts) -> models.Plans:
    """List all plans."""
    return models.Plans(plans=[models.Plan.of(view) for view in await _plans(parts)])


@router.get("/{name}")
async def read_plan(name: PathName, parts: TheParts) -> models.Plan:
    """Read one plan."""
    for view in await _plans(parts):
        if view.name == name:
            return models.Plan.of(view)
    raise Refused(404, "plan_not_found", f"there is no plan {name}")


@router.put("/{name}")
async def set_plan(name: PathName, body: models.PlanToSet, parts: TheParts, actor: TheActor) -> models.Plan:
    """Make a plan, or replace all of it. `default` holds for accounts that are on none."""
    command = contract.SetPlan(name=name, plan=body.to_contract(), actor=actor, reason=body.reason)
    return models.Plan.of(await ask(parts.client, command, contract.PlanView))


async def _plans(parts: TheParts) -> list[contract.PlanView]:
    return (await ask(parts.client, contract.ListPlans(), contract.PlanPage)).plans
