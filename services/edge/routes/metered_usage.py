"""`/v1/usage` and an account's: what was used, by meter, window and group; and closing an account's hours."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, Field

from contracts import accounts, metering
from services.edge.auth import Administrator
from services.edge.parts import Parts
from services.edge.problems import Refused
from services.edge.routes import cursor, models
from services.edge.routes.access import (
    NEEDS_ADMINISTRATOR,
    NEEDS_KEY,
    AnyCaller,
    Caller,
    TheParts,
)
from services.edge.routes.actors import TheActor
from services.edge.routes.limit_models import Reason
from services.edge.routes.models import AccountId, Body, Moment
from services.edge.routes.usage_answers import DESCRIBED, MeterPage, MeterRow, Page, as_csv, wants_csv
from services.edge.routes.usage_query import HouseUsageQuery, UsageQuery, place_of
from shared.bus import ask

router = APIRouter(prefix="/v1", tags=["Usage"])

ANSWERS: dict[str, Any] = {"response_model": Page, "responses": {200: DESCRIBED}}


class Closing(Body):
    until: Moment = Field(description="A whole hour, not in the future: what lies before it is closed.")
    reason: Reason


class Closed(BaseModel):
    account_id: str
    closed_until: datetime


async def readable_usage(account_id: Annotated[AccountId, Path()], caller: AnyCaller) -> Caller:
    """A caller who may read something of this account; a foreign one answers like a missing one."""
    if not isinstance(caller, Administrator) and caller.account_id != account_id:
        raise Refused(404, "account_not_found", f"there is no account {account_id}")
    return caller


@router.get("/usage", dependencies=NEEDS_ADMINISTRATOR, **ANSWERS)
async def query_usage(
    parts: TheParts, request: Request, query: Annotated[HouseUsageQuery, Query()]
) -> Page | Response:
    """Sum up the usage of all accounts."""
    return _answer(request, query, await _page(parts, query, query.account, query.user_id))


@router.get("/accounts/{account_id}/usage", dependencies=NEEDS_KEY, **ANSWERS)
async def query_account_usage(
    account_id: AccountId,
    caller: Annotated[Caller, Depends(readable_usage)],
    parts: TheParts,
    request: Request,
    query: Annotated[UsageQuery, Query()],
) -> Page | Response:
    """Sum up the usage of one account; a user's key or session token reads its own user's."""
    if query.as_of is not None and not isinstance(caller, Administrator):
        raise Refused(403, "administrator_needed", "as_of needs an administrator's key")
    return _answer(request, query, await _page(parts, query, account_id, _user_of(caller, query.user_id)))


@router.post("/accounts/{account_id}/usage/close", dependencies=NEEDS_ADMINISTRATOR)
async def close_usage(account_id: AccountId, body: Closing, parts: TheParts, actor: TheActor) -> Closed:
    """Close the hours of an account before a time: they never change again.

    What comes late for them counts in the first open hour, and names its month in `of`. It cannot be
    taken back; the same again changes nothing.
    """
    await ask(parts.client, accounts.GetAccount(account_id=account_id), accounts.AccountView)
    command = metering.CloseUsage(account_id=account_id, until=body.until, actor=actor, reason=body.reason)
    closed = await ask(parts.client, command, metering.ClosedUsage)
    return Closed(account_id=closed.account_id, closed_until=closed.closed_until)


def _user_of(caller: Caller, asked: str | None) -> str | None:
    """Whose usage is read; of a user's own key its own alone."""
    if isinstance(caller, Administrator) or caller.user_id is None:
        return asked
    if asked not in {None, caller.user_id}:
        raise Refused(403, "account_key_needed", "a user's key may read its own user's usage only")
    return caller.user_id


async def _page(parts: Parts, query: UsageQuery, account_id: str | None, user_id: str | None) -> Page:
    if query.meter is None:
        return await _payments(parts, query.of_payments(account_id, user_id))
    asked = query.of_meter(query.meter, account_id, user_id)
    page = await ask(parts.client, asked, metering.MeterPage)
    rows = [MeterRow.model_validate(row, from_attributes=True) for row in page.rows]
    following = cursor.next_of(page.rows, asked.limit, lambda row: place_of(row, asked))
    is_paged = asked.group_by or asked.window
    return MeterPage(meter=page.meter, usage=rows, next=following if is_paged else None)


async def _payments(parts: Parts, asked: metering.QueryUsage) -> models.UsagePage:
    page = await ask(parts.client, asked, metering.UsagePage)
    rows = [models.UsageRow.model_validate(row, from_attributes=True) for row in page.rows]
    following = cursor.next_of(
        page.rows, asked.limit, lambda row: [row.group.get(key) or "" for key in asked.group_by]
    )
    return models.UsagePage(usage=rows, next=following if asked.group_by else None)


def _answer(request: Request, query: UsageQuery, page: Page) -> Page | Response:
    return as_csv(request, page, query.group_by) if wants_csv(request, query.format) else page
