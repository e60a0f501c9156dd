"""`/v1/accounts`: accounts, their payers and their keys."""

from typing import Annotated

from fastapi import APIRouter, Path

from contracts import accounts as contract
from contracts import quota
from contracts.api_keys import sdk_token
from services.edge import keys
from services.edge.problems import UNPROCESSABLE, FieldError, Refused
from services.edge.routes import cursor, models
from services.edge.routes.access import NEEDS_ADMINISTRATOR, NEEDS_KEY, ReadableAccount, TheParts
from services.edge.routes.actors import TheActor
from services.edge.routes.models import AccountId
from shared.bus import CommandRefusedError, ask

router = APIRouter(prefix="/v1/accounts", tags=["Accounts"])

OPENED = "account_opened"  # why its first limit was set

type PathAccountId = Annotated[AccountId, Path()]


@router.post("", status_code=201, dependencies=NEEDS_ADMINISTRATOR)
async def open_account(body: models.NewAccount, parts: TheParts, actor: TheActor) -> models.Account:
    """Open an account. Opening it again changes nothing and answers the same."""
    if body.payer is not None:
        await _require_known(parts, body.account_id, body.payer)
    command = contract.OpenAccount(account_id=body.account_id, payer=body.payer, actor=actor)
    opened = await ask(parts.client, command, contract.AccountView)
    if body.spend_limit_wei is not None:
        limit = quota.SetSpendLimit(
            account_id=body.account_id, spend_limit=int(body.spend_limit_wei), actor=actor, reason=OPENED
        )
        await ask(parts.client, limit, quota.BudgetView)
    return _account(opened)


@router.get("", dependencies=NEEDS_ADMINISTRATOR)
async def list_accounts(
    parts: TheParts, limit: cursor.Limit = 50, cursor_: cursor.NamedCursor = None
) -> models.AccountPage:
    """List accounts by id."""
    asked = contract.ListAccounts(after=cursor.decode_one(cursor_), limit=limit)
    page = await ask(parts.client, asked, contract.AccountPage)
    following = cursor.next_of(page.accounts, limit, lambda row: [row.account_id])
    return models.AccountPage(accounts=[_account(row) for row in page.accounts], next=following)


@router.get("/{account_id}", dependencies=NEEDS_KEY)
async def get_account(account_id: ReadableAccount, parts: TheParts) -> models.Account:
    """Read one account."""
    asked = contract.GetAccount(account_id=account_id)
    return _account(await ask(parts.client, asked, contract.AccountView))


@router.post("/{account_id}/suspend", dependencies=NEEDS_ADMINISTRATOR)
async def suspend_account(
    account_id: PathAccountId, body: models.Suspension, parts: TheParts, actor: TheActor
) -> models.Account:
    """Suspend an account: its keys are refused at once, and its running sessions stop."""
    command = contract.SuspendAccount(account_id=account_id, reason=body.reason, actor=actor)
    return _account(await ask(parts.client, command, contract.AccountView))


@router.post("/{account_id}/resume", dependencies=NEEDS_ADMINISTRATOR)
async def resume_account(account_id: PathAccountId, parts: TheParts, actor: TheActor) -> models.Account:
    """End a suspension."""
    command = contract.ResumeAccount(account_id=account_id, actor=actor)
    return _account(await ask(parts.client, command, contract.AccountView))


@router.put("/{account_id}/payer", dependencies=NEEDS_ADMINISTRATOR)
async def set_payer(
    account_id: PathAccountId, body: models.NextPayer, parts: TheParts, actor: TheActor
) -> models.Account:
    """Choose who pays for the account's next keys. A key keeps the payer it was issued with."""
    await _require_known(parts, account_id, body.payer)
    command = contract.SetPayer(account_id=account_id, payer=body.payer, actor=actor)
    return _account(await ask(parts.client, command, contract.AccountView))


@router.post("/{account_id}/keys", status_code=201, dependencies=NEEDS_ADMINISTRATOR, tags=["Keys"])
async def issue_key(
    account_id: PathAccountId, parts: TheParts, actor: TheActor, body: models.KeyRequest | None = None
) -> models.IssuedKey:
    """Issue an API key. It is shown in this answer and never again."""
    key = keys.make()
    command = contract.IssueApiKey(
        account_id=account_id,
        key_id=key.key_id,
        secret_hash=parts.authenticator.hash(key),
        user_id=body.user_id if body else None,
        actor=actor,
    )
    issued = await ask(parts.client, command, contract.ApiKeyView)
    token = sdk_token(parts.public_url, key.text)
    return models.IssuedKey(key=_key(issued), api_key=key.text, sdk_token=token)


@router.get("/{account_id}/keys", dependencies=NEEDS_ADMINISTRATOR, tags=["Keys"])
async def list_keys(
    account_id: PathAccountId,
    parts: TheParts,
    limit: cursor.Limit = 50,
    cursor_: cursor.NamedCursor = None,
) -> models.KeyPage:
    """List an account's keys by id, revoked ones included."""
    asked = contract.ListApiKeys(account_id=account_id, after=cursor.decode_one(cursor_), limit=limit)
    page = await ask(parts.client, asked, contract.ApiKeyPage)
    following = cursor.next_of(page.keys, limit, lambda row: [row.key_id])
    return models.KeyPage(keys=[_key(row) for row in page.keys], next=following)


@router.delete("/{account_id}/keys/{key_id}", dependencies=NEEDS_ADMINISTRATOR, tags=["Keys"])
async def revoke_key(
    account_id: PathAccountId, key_id: Annotated[models.KeyId, Path()], parts: TheParts, actor: TheActor
) -> models.Key:
    """Revoke a key at once and for ever."""
    command = contract.RevokeApiKey(account_id=account_id, key_id=key_id, actor=actor)
    return _key(await ask(parts.client, command, contract.ApiKeyView))


async def _require_known(parts: TheParts, account_id: str, payer: str) -> None:
    """Raise unless the payer's funds were observed and the signer has its key: or nothing gets signed."""
    try:
        await ask(parts.client, quota.ReadPool(payer=payer), quota.PoolView)
        await parts.signatures.get(account_id, payer)
    except CommandRefusedError as refused:
        if refused.refusal.code not in {"pool_not_found", "payer_unknown"}:
            raise
        text = f"{payer} is none of our payers"
        error = FieldError(field="body.payer", message=text)
        raise Refused(UNPROCESSABLE, "unknown_payer", text, errors=[error]) from refused


def _account(view: contract.AccountView) -> models.Account:
    return models.Account(
        account_id=view.account_id, status=view.status, opened_at=view.opened_at, payer=view.payer
    )


def _key(view: contract.ApiKeyView) -> models.Key:
    return models.Key(
        key_id=view.key_id,
        account_id=view.account_id,
        user_id=view.user_id,
        status=view.status,
        issued_at=view.issued_at,
        payer=view.payer,
    )
