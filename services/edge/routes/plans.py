"""`/v1/plans`: limits under a name, for all accounts that are on it."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Response

from contracts import limits as contract
from services.edge import versions
from services.edge.problems import Refused
from services.edge.routes import limit_models as models
from services.edge.routes.access import NEEDS_ADMINISTRATOR, TheParts
from services.edge.routes.actors import TheActor
from services.edge.routes.limits import require_level
from services.edge.versions import ExpectedVersion
from shared.bus import ask

TAGGED: dict[int | str, dict[str, Any]] = {200: {"headers": versions.DESCRIBED}}

router = APIRouter(prefix="/v1/plans", tags=["Plans"], dependencies=NEEDS_ADMINISTRATOR)

type PathName = Annotated[models.PlanName, Path()]


@router.get("")
async def list_plans(parts: TheParts) -> models.Plans:
    """List all plans."""
    return models.Plans(plans=[models.Plan.of(view) for view in await _plans(parts)])


@router.get("/{name}", responses=TAGGED)
async def read_plan(name: PathName, parts: TheParts, response: Response) -> models.Plan:
    """Read one plan."""
    for view in await _plans(parts):
        if view.name == name:
            return _tagged(view, response)
    raise Refused(404, "plan_not_found", f"there is no plan {name}")


@router.put("/{name}", responses={**TAGGED, **versions.REFUSALS})
async def set_plan(  # noqa: PLR0917 (FastAPI gives them by name)
    name: PathName,
    body: models.PlanToSet,
    parts: TheParts,
    actor: TheActor,
    response: Response,
    version: ExpectedVersion = None,
) -> models.Plan:
    """Make a plan, or replace all of it. `default` holds for accounts that are on none."""
    plan = body.to_contract()
    require_level(plan.limits, "account", "body", "limits")
    require_level(plan.user_limits, "user", "body", "user_limits")
    require_level(plan.key_limits, "key", "body", "key_limits")
    command = contract.SetPlan(name=name, plan=plan, actor=actor, reason=body.reason, version=version)
    return _tagged(await ask(parts.client, command, contract.PlanView), response)


def _tagged(view: contract.PlanView, response: Response) -> models.Plan:
    response.headers.update(versions.tag(view.version))
    return models.Plan.of(view)


async def _plans(parts: TheParts) -> list[contract.PlanView]:
    return (await ask(parts.client, contract.ListPlans(), contract.PlanPage)).plans
