"""`/v1/stops`: whose payments are not signed now, whatever their limits."""

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BeforeValidator

from contracts.stops import LiftStops, ListStops, SetStops, StopPage, StopToSet
from services.edge.routes import cursor
from services.edge.routes import stop_models as models
from services.edge.routes.access import NEEDS_ADMINISTRATOR, TheParts
from services.edge.routes.actors import TheActor
from services.edge.routes.limit_models import Reason
from shared.bus import ask

CSV: dict[str, Any] = {
    "schema": {"type": "string", "description": "One recipient a line, in the first column."},
    "example": "recipient\n0x00000000000000000000000000000000000000aa\n",
}
HEADINGS = frozenset({"recipient", "address"})

router = APIRouter(prefix="/v1/stops", tags=["Stops"], dependencies=NEEDS_ADMINISTRATOR)


def read_csv(body: object) -> object:
    """Read a list of recipients; what came as JSON is left as it is."""
    if not isinstance(body, bytes):
        return body
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("neither JSON nor a list of recipients in UTF-8") from None
    return {"stops": [{"what": "recipient", "value": value} for value in _first_column(text)]}


def _first_column(text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines()):
        value = line.partition(",")[0].strip().strip('"')
        if value and not value.startswith("#") and not (number == 0 and value.lower() in HEADINGS):
            yield value


type ListOrCsv = Annotated[models.StopsToSet, BeforeValidator(read_csv)]
type WhyOfCsv = Annotated[Reason | None, Query(description="Of a list in `text/csv`.")]


@router.get("")
async def list_stops(
    parts: TheParts, limit: cursor.Limit = 100, cursor_: cursor.NamedCursor = None
) -> models.StopPage:
    """List what is stopped."""
    asked = ListStops(after=cursor.decode_one(cursor_), limit=limit)
    page = await ask(parts.client, asked, StopPage)
    following = cursor.next_of(page.stops, limit, lambda stop: [f"{stop.what}:{stop.value}"])
    return models.StopPage(stops=_stops(page), next=following)


@router.post("", openapi_extra={"requestBody": {"content": {"text/csv": CSV}}})
async def set_stops(
    body: ListOrCsv, parts: TheParts, actor: TheActor, reason: WhyOfCsv = None
) -> models.Stops:
    """Stop signing for all of these; each signer obeys within a second. A repeat changes nothing.

    A deny list of recipients can be sent as it is, as `text/csv`, 500 at a time.
    """
    stops = [StopToSet(what=stop.what, value=stop.value) for stop in body.stops]
    command = SetStops(stops=stops, expires_at=body.expires_at, actor=actor, reason=reason or body.reason)
    return models.Stops(stops=_stops(await ask(parts.client, command, StopPage)))


@router.post("/lift", status_code=204)
async def lift_stops(body: models.StopsToLift, parts: TheParts, actor: TheActor) -> None:
    """Sign again for all of these. What was not stopped stays as it is."""
    stops = [StopToSet(what=stop.what, value=stop.value) for stop in body.stops]
    command = LiftStops(stops=stops, actor=actor, reason=body.reason)
    await ask(parts.client, command, StopPage)


def _stops(page: StopPage) -> list[models.Stop]:
    return [models.Stop.model_validate(stop, from_attributes=True) for stop in page.stops]
