"""`/v1/accounts/{id}/credit`: what was paid ahead or given, and what is owed."""

from typing import Annotated

from fastapi import APIRouter, Header, Path, Query

from contracts.credit import CreditView, GrantCredit, ReadCredit, VoidCredit
from services.edge.problems import UNPROCESSABLE, FieldError, Refused
from services.edge.routes import limit_models as models
from services.edge.routes.access import NEEDS_ADMINISTRATOR, NEEDS_KEY, ReadableAccount, TheParts
from services.edge.routes.actors import TheActor
from services.edge.routes.limits import PathAccountId, require_account
from services.edge.routes.models import OpaqueId
from shared.bus import ask

router = APIRouter(prefix="/v1/accounts/{account_id}/credit", tags=["Credit"])

type IdempotencyKey = Annotated[
    OpaqueId | None,
    Header(alias="Idempotency-Key", description="The grant's id: a repeat grants nothing more."),
]
type Why = Annotated[models.Reason, Query()]


@router.get("", dependencies=NEEDS_KEY)
async def read_credit(account_id: ReadableAccount, parts: TheParts) -> models.Credit:
    """Read an account's grants, what is left of each, and what it owes."""
    await require_account(parts, account_id)
    return _credit(await ask(parts.client, ReadCredit(account_id=account_id), CreditView))


@router.post("", status_code=201, dependencies=NEEDS_ADMINISTRATOR)
async def grant_credit(
    account_id: PathAccountId,
    body: models.CreditToGrant,
    parts: TheParts,
    actor: TheActor,
    idempotency_key: IdempotencyKey = None,
) -> models.Credit:
    """Grant credit, once by its id: a repeat answers the same, other content under the same id is 409."""
    await require_account(parts, account_id)
    command = GrantCredit(
        account_id=account_id,
        grant_id=_grant_id(idempotency_key, body.grant_id),
        credit=body.credit,
        amount_micro_usd=body.amount_micro_usd,
        priority=body.priority,
        expires_at=body.expires_at,
        actor=actor,
        reason=body.reason,
    )
    return _credit(await ask(parts.client, command, CreditView))


@router.delete("/{grant_id}", dependencies=NEEDS_ADMINISTRATOR)
async def void_credit(
    account_id: PathAccountId,
    grant_id: Annotated[OpaqueId, Path()],
    parts: TheParts,
    actor: TheActor,
    reason: Why = models.UNSPECIFIED,
) -> models.Credit:
    """Take back what is left of a grant."""
    await require_account(parts, account_id)
    command = VoidCredit(account_id=account_id, grant_id=grant_id, actor=actor, reason=reason)
    return _credit(await ask(parts.client, command, CreditView))


def _grant_id(header: str | None, told: str | None) -> str:
    """One of them names the grant; both may, if they say the same."""
    named = {name for name in (header, told) if name is not None}
    if len(named) == 1:
        return named.pop()
    text = "one id is needed: `Idempotency-Key`, or `grant_id` in the body"
    error = FieldError(field="body.grant_id", message=text)
    raise Refused(UNPROCESSABLE, "invalid_request", f"body.grant_id: {text}", errors=[error])


def _credit(view: CreditView) -> models.Credit:
    return models.Credit(
        account_id=view.account_id,
        grants=view.grants,
        prepaid_micro_usd=view.prepaid_micro_usd,
        owed_micro_usd=view.owed_micro_usd,
        credit_limit_micro_usd=view.credit_limit_micro_usd,
    )
