"""Who may ask what of `/v1`."""

from typing import Annotated

from fastapi import Depends, Path, Request
from fastapi.security import HTTPBearer

from contracts.accounts import Identity
from services.edge.auth import Administrator, AuthenticationRefused, NotReadyError
from services.edge.parts import Parts, parts_of
from services.edge.problems import Refused
from services.edge.routes.models import AccountId

ADMIN_KEY = HTTPBearer(
    scheme_name="AdministratorKey", description="An administrator's key.", auto_error=False
)
ANY_KEY = HTTPBearer(
    scheme_name="ApiKey",
    description="An administrator's key, an API key of the account itself, or a session token.",
    auto_error=False,
)

type Caller = Identity | Administrator
type TheParts = Annotated[Parts, Depends(parts_of_request)]


def parts_of_request(request: Request) -> Parts:
    return parts_of(request)


async def caller_of(request: Request) -> Caller:
    try:
        return await parts_of(request).admission.admit_anybody(request.scope)
    except AuthenticationRefused as refused:
        raise kept_out(refused) from refused


type AnyCaller = Annotated[Caller, Depends(caller_of)]


async def administrator(caller: AnyCaller) -> None:
    if not isinstance(caller, Administrator):
        raise Refused(403, "administrator_needed", "this needs an administrator's key")


async def readable_account(account_id: Annotated[AccountId, Path()], caller: AnyCaller) -> str:
    """An account that the caller may read; a foreign one answers like a missing one."""
    require_readable(account_id, caller)
    return account_id


def require_readable(account_id: str, caller: Caller) -> None:
    if isinstance(caller, Administrator):
        return
    if caller.account_id != account_id:
        raise Refused(404, "account_not_found", f"there is no account {account_id}")
    if caller.user_id is not None:
        raise Refused(403, "account_key_needed", "a user's key may not read the whole account")


def kept_out(refused: AuthenticationRefused) -> Refused:
    """Why a credential was not let in, as `/v1` says it."""
    if isinstance(refused, NotReadyError):
        return unavailable()
    return Refused(refused.status, refused.code, str(refused), headers=refused.headers)


def unavailable() -> Refused:
    detail = "we cannot answer now; asking again may help"
    return Refused(503, "unavailable", detail, headers={"Retry-After": "1"})


type ReadableAccount = Annotated[str, Depends(readable_account)]
NEEDS_ADMINISTRATOR = [Depends(ADMIN_KEY), Depends(administrator)]
NEEDS_KEY = [Depends(ANY_KEY)]
