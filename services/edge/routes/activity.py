"""`/v1/keys/{id}/activity`: from where a key is used, whom it pays, and what of that was an alarm."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel, Field

from contracts import accounts
from contracts import key_watch as contract
from services.edge.auth import Administrator
from services.edge.parts import Parts
from services.edge.problems import Refused
from services.edge.routes.access import NEEDS_KEY, AnyCaller, Caller, TheParts
from services.edge.routes.models import KeyId, WeiOut
from services.edge.tokens import TokenHolder
from shared.bus import CommandRefusedError, ask

router = APIRouter(prefix="/v1/keys/{key_id}", tags=["Keys"], dependencies=NEEDS_KEY)


class KeyActivity(BaseModel):
    """What is known of a key; what was seen, spent or raised last comes first."""

    account_id: str
    key_id: str
    networks: list[contract.NetworkRow] = Field(
        description="From which it was used in the last 30 days: a /24 of IPv4, a /48 of IPv6."
    )
    recipients: list[contract.RecipientRow] = Field(description="Whom it paid in the last 30 days.")
    spent_this_hour_wei: WeiOut = Field(description="In the hour of the account's clock.")
    highest_hours: list[contract.HighestHour] = Field(
        description="The most of one hour that is over, for today and the seven days before."
    )
    alarms: list[contract.AlarmRow] = Field(description="The last hundred.")
    stop: contract.KeyStop | None = Field(description="Null: the key itself is not stopped.")


async def account_of_key(key_id: Annotated[KeyId, Path()], caller: AnyCaller, parts: TheParts) -> str:
    """Whose the key is, if the caller may read what it does; a foreign one answers like a missing one."""
    if not isinstance(caller, Administrator) and caller.key_id == key_id:
        account_id = caller.account_id
    else:
        account_id = await _find_account(parts, key_id, caller)
    if isinstance(caller, TokenHolder):
        raise Refused(403, "api_key_needed", "a session token may not read what its key does")
    if not isinstance(caller, Administrator) and caller.user_id is not None and caller.key_id != key_id:
        raise Refused(403, "account_key_needed", "a user's key may not read what another one does")
    return account_id


async def _find_account(parts: Parts, key_id: str, caller: Caller) -> str:
    try:
        found = await ask(parts.client, accounts.FindIdentity(key_id=key_id), accounts.Identity)
    except CommandRefusedError as refused:
        if refused.refusal.code != "key_not_found":
            raise
    else:
        if isinstance(caller, Administrator) or caller.account_id == found.account_id:
            return found.account_id
    raise Refused(404, "key_not_found", f"there is no key {key_id}")


@router.get("/activity")
async def read_key_activity(
    key_id: Annotated[KeyId, Path()],
    account_id: Annotated[str, Depends(account_of_key)],
    parts: TheParts,
) -> KeyActivity:
    """Read from where a key is used, whom it pays, what it spends, and which alarms that raised.

    A key may read its own, an account's key those of its account, an administrator any.
    """
    asked = contract.ReadKeyActivity(account_id=account_id, key_id=key_id)
    found = await ask(parts.client, asked, contract.KeyActivity)
    return KeyActivity.model_validate(found, from_attributes=True)
