"""`/v1/me`: whose key is this, and what may its holder still spend?"""

import asyncio

from fastapi import APIRouter, Response

from contracts.accounts import Identity
from contracts.limits import LimitRow, LimitsView, ReadLimits, Scoped
from services.edge.auth import Administrator
from services.edge.parts import Parts
from services.edge.rate_limits import DESCRIBED, rate_limit_fields
from services.edge.routes import limit_models as models
from services.edge.routes.access import NEEDS_KEY, AnyCaller, TheParts
from shared.bus import ServiceUnavailableError, ask

router = APIRouter(prefix="/v1/me", tags=["Keys"], dependencies=NEEDS_KEY)


@router.get("", responses={200: {"headers": DESCRIBED}})
async def read_me(caller: AnyCaller, parts: TheParts, response: Response) -> models.Me:
    """Say whose key this is, and which limits are counted of its holder.

    A user's key is told its own and its user's, not the account's. Whose key it is can be told
    without quota: where that says nothing, `limits` is null.
    """
    if isinstance(caller, Administrator):
        return models.Me(role="administrator")
    try:
        limits = await _limits(parts, caller)
    except ServiceUnavailableError:
        limits = None
    if limits is not None:
        response.headers.update(rate_limit_fields(_named(limits), parts.clock.now()))
    return models.Me(
        role="account",
        account_id=caller.account_id,
        user_id=caller.user_id,
        key_id=caller.key_id,
        payer=caller.payer,
        limits=limits,
    )


async def _limits(parts: Parts, holder: Identity) -> models.HeldLimits:
    account_id = holder.account_id
    widest = Scoped(account_id=account_id, user_id=holder.user_id)
    outer, key = await asyncio.gather(
        _rows(parts, widest), _rows(parts, Scoped(account_id=account_id, key_id=holder.key_id))
    )
    if holder.user_id is None:
        return models.HeldLimits(account=outer, user=None, key=key)
    return models.HeldLimits(account=None, user=outer, key=key)


async def _rows(parts: Parts, scope: Scoped) -> list[LimitRow]:
    return (await ask(parts.client, ReadLimits(**dict(scope)), LimitsView)).rows


def _named(limits: models.HeldLimits) -> list[LimitRow]:
    """The rows with whose they are before the name, as answers about streams have them."""
    of_user = [_of("user", row) for row in limits.user or []]
    return [*(limits.account or []), *of_user, *(_of("key", row) for row in limits.key or [])]


def _of(level: str, row: LimitRow) -> LimitRow:
    return row.model_copy(update={"name": f"{level}.{row.name}"})
