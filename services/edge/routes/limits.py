"""`/v1/accounts/{id}/limits`, and those of its users and keys: what may be spent, and what is left."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Response

from contracts import accounts
from contracts import limits as contract
from services.edge import rate_limits, versions
from services.edge.auth import Administrator
from services.edge.problems import Refused, invalid
from services.edge.routes import limit_models as models
from services.edge.routes.access import (
    NEEDS_ADMINISTRATOR,
    NEEDS_KEY,
    AnyCaller,
    ReadableAccount,
    TheParts,
    require_readable,
)
from services.edge.routes.actors import TheActor
from services.edge.routes.models import AccountId, KeyId, OpaqueId
from services.edge.tokens import TokenHolder
from services.edge.versions import ExpectedVersion
from shared.bus import CommandRefusedError, ask

SPEND_LIMIT = "spend_limit_wei"
ANSWERS: dict[int | str, dict[str, Any]] = {200: {"headers": {**rate_limits.DESCRIBED, **versions.DESCRIBED}}}

router = APIRouter(prefix="/v1/accounts/{account_id}", tags=["Limits"], responses=ANSWERS)

type PathAccountId = Annotated[AccountId, Path()]
type PathUserId = Annotated[OpaqueId, Path()]
type PathKeyId = Annotated[KeyId, Path()]


async def readable_user(account_id: PathAccountId, user_id: PathUserId, caller: AnyCaller) -> str:
    """A user whose limits the caller may read; a user's key its own user's."""
    if isinstance(caller, Administrator) or (caller.account_id, caller.user_id) != (account_id, user_id):
        require_readable(account_id, caller)
    return user_id


async def readable_key(
    account_id: PathAccountId, key_id: PathKeyId, caller: AnyCaller, parts: TheParts
) -> str:
    """A key whose limits the caller may read, its own at least; a session token is no key."""
    if isinstance(caller, Administrator | TokenHolder) or (caller.account_id, caller.key_id) != (
        account_id,
        key_id,
    ):
        require_readable(account_id, caller)
        await _require_key(parts, account_id, key_id)
    return key_id


type ReadableUser = Annotated[str, Depends(readable_user)]
type ReadableKey = Annotated[str, Depends(readable_key)]


@router.get("/limits", dependencies=NEEDS_KEY)
async def read_limits(
    account_id: ReadableAccount, parts: TheParts, response: Response
) -> models.AccountLimits:
    """Read what an account may spend, and what is left of it."""
    await require_account(parts, account_id)
    return _of_account(await _read(parts, contract.Scoped(account_id=account_id), response))


@router.put("/limits", dependencies=NEEDS_ADMINISTRATOR, responses=versions.REFUSALS)
async def set_limits(  # noqa: PLR0917 (FastAPI gives them by name)
    account_id: PathAccountId,
    body: models.LimitsToSet,
    parts: TheParts,
    actor: TheActor,
    response: Response,
    version: ExpectedVersion = None,
) -> models.AccountLimits:
    """Replace all that limits an account; what is not named comes from its plan, or from the defaults."""
    await require_account(parts, account_id)
    scope = contract.Scoped(account_id=account_id)
    return _of_account(_with_fields(await _set(parts, scope, body, actor, version), parts, response))


@router.get("/users/{user_id}/limits", dependencies=NEEDS_KEY)
async def read_user_limits(
    account_id: PathAccountId, user_id: ReadableUser, parts: TheParts, response: Response
) -> models.UserLimits:
    """Read what one user of an account may spend, beside the account's own limits."""
    await require_account(parts, account_id)
    scope = contract.Scoped(account_id=account_id, user_id=user_id)
    return _of_user(await _read(parts, scope, response))


@router.put("/users/{user_id}/limits", dependencies=NEEDS_ADMINISTRATOR, responses=versions.REFUSALS)
async def set_user_limits(  # noqa: PLR0917 (FastAPI gives them by name)
    account_id: PathAccountId,
    user_id: PathUserId,
    body: models.LimitsToSet,
    parts: TheParts,
    actor: TheActor,
    response: Response,
    version: ExpectedVersion = None,
) -> models.UserLimits:
    """Replace all that limits one user of an account."""
    await require_account(parts, account_id)
    scope = contract.Scoped(account_id=account_id, user_id=user_id)
    return _of_user(_with_fields(await _set(parts, scope, body, actor, version), parts, response))


@router.get("/keys/{key_id}/limits", dependencies=NEEDS_KEY)
async def read_key_limits(
    account_id: PathAccountId, key_id: ReadableKey, parts: TheParts, response: Response
) -> models.KeyLimits:
    """Read what one key may spend, beside the limits of its account and its user."""
    scope = contract.Scoped(account_id=account_id, key_id=key_id)
    return _of_key(await _read(parts, scope, response))


@router.put("/keys/{key_id}/limits", dependencies=NEEDS_ADMINISTRATOR, responses=versions.REFUSALS)
async def set_key_limits(  # noqa: PLR0917 (FastAPI gives them by name)
    account_id: PathAccountId,
    key_id: PathKeyId,
    body: models.LimitsToSet,
    parts: TheParts,
    actor: TheActor,
    response: Response,
    version: ExpectedVersion = None,
) -> models.KeyLimits:
    """Replace all that limits one key."""
    await _require_key(parts, account_id, key_id)
    scope = contract.Scoped(account_id=account_id, key_id=key_id)
    return _of_key(_with_fields(await _set(parts, scope, body, actor, version), parts, response))


@router.put("/plan", dependencies=NEEDS_ADMINISTRATOR, tags=["Plans"])
async def assign_plan(
    account_id: PathAccountId, body: models.PlanToAssign, parts: TheParts, actor: TheActor, response: Response
) -> models.AccountLimits:
    """Put an account on a plan, or on none. What it set itself stays."""
    await require_account(parts, account_id)
    command = contract.AssignPlan(account_id=account_id, plan=body.plan, actor=actor, reason=body.reason)
    return _of_account(_with_fields(await ask(parts.client, command, contract.LimitsView), parts, response))


@router.put("/time-zone", dependencies=NEEDS_ADMINISTRATOR)
async def set_time_zone(
    account_id: PathAccountId,
    body: models.TimeZoneToSet,
    parts: TheParts,
    actor: TheActor,
    response: Response,
) -> models.AccountLimits:
    """Choose whose hours, days and months an account's windows are."""
    await require_account(parts, account_id)
    command = contract.SetTimeZone(
        account_id=account_id, time_zone=body.time_zone, actor=actor, reason=body.reason
    )
    return _of_account(_with_fields(await ask(parts.client, command, contract.LimitsView), parts, response))


async def require_account(parts: TheParts, account_id: str) -> None:
    """Raise unless it was opened: quota knows accounts by what they spend only."""
    await ask(parts.client, accounts.GetAccount(account_id=account_id), accounts.AccountView)


async def _require_key(parts: TheParts, account_id: str, key_id: str) -> None:
    try:
        found = await ask(parts.client, accounts.FindIdentity(key_id=key_id), accounts.Identity)
    except CommandRefusedError as refused:
        if refused.refusal.code != "key_not_found":
            raise
        found = None
    if found is None or found.account_id != account_id:
        raise Refused(404, "key_not_found", f"there is no key {key_id}")


async def _read(parts: TheParts, scope: contract.Scoped, response: Response) -> contract.LimitsView:
    asked = contract.ReadLimits(**dict(scope))
    return _with_fields(await ask(parts.client, asked, contract.LimitsView), parts, response)


async def _set(
    parts: TheParts, scope: contract.Scoped, body: models.LimitsToSet, actor: str, version: int | None
) -> contract.LimitsView:
    limits = body.to_contract()
    require_level(limits, scope.level, "body")
    command = contract.SetLimits(
        **dict(scope), limits=limits, actor=actor, reason=body.reason, version=version
    )
    return await ask(parts.client, command, contract.LimitsView)


def require_level(limits: contract.Limits, level: contract.Level, *where: str) -> None:
    """Raise Refused, with their fields, for limits that mean nothing at this level."""
    found = contract.misplaced(limits, level)
    if found:
        raise invalid(
            [{"loc": (*where, name), "msg": text, "type": "value_error"} for name, text in found.items()]
        )


def _with_fields(view: contract.LimitsView, parts: TheParts, response: Response) -> contract.LimitsView:
    response.headers.update(rate_limits.rate_limit_fields(view.rows, parts.clock.now()))
    response.headers.update(versions.tag(view.version))
    return view


def _of_account(view: contract.LimitsView) -> models.AccountLimits:
    row = next((row for row in view.rows if row.name == SPEND_LIMIT), None)
    return models.AccountLimits(
        **_common(view),
        spend_limit_wei=row.limit if row else None,
        spent_wei=row.used if row else None,
        held_wei=row.held if row else None,
        remaining_wei=row.remaining if row else None,
        most_micro_usd=view.most_micro_usd,
    )


def _of_user(view: contract.LimitsView) -> models.UserLimits:
    assert view.user_id is not None
    return models.UserLimits(**_common(view), user_id=view.user_id)


def _of_key(view: contract.LimitsView) -> models.KeyLimits:
    assert view.key_id is not None
    return models.KeyLimits(**_common(view), key_id=view.key_id)


def _common(view: contract.LimitsView) -> dict[str, Any]:
    return {
        "account_id": view.account_id,
        "plan": view.plan,
        "time_zone": view.time_zone,
        "own": models.LimitValues.of(view.own),
        "effective": models.LimitValues.of(view.effective),
        "limits": view.rows,
        "sessions": view.sessions,
        "streams": view.streams,
        "suspended": view.suspended,
    }
