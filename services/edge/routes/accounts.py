"""`/v1/accounts`: accounts, their payers, their keys and their limits."""

from base64 import b64encode
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic_core import to_json

from contracts import accounts as contract
from contracts import quota
from services.edge import keys
from services.edge.problems import UNPROCESSABLE, FieldError, Refused
from services.edge.routes import cursor, models
from services.edge.routes.access import NEEDS_ADMINISTRATOR, NEEDS_KEY, ReadableAccount, TheParts
from services.edge.routes.models import AccountId
from shared.bus import CommandRefusedError, ask

router = APIRouter(prefix="/v1/accounts", tags=["Accounts"])

type PathAccountId = Annotated[AccountId, Path()]


@router.post("", status_code=201, dependencies=NEEDS_ADMINISTRATOR)
async def open_account(body: models.NewAccount, parts: TheParts) -> models.Account:
    """Open an account. Opening it again changes nothing and answers the same."""
    if body.payer is not None:
        await _require_known(parts, body.account_id, body.payer)
    command = contract.OpenAccount(account_id=body.account_id, payer=body.payer)
    opened = await ask(parts.client, command, contract.AccountView)
    if body.spend_limit_wei is not None:
        await _set_limit(parts, body.account_id, body.spend_limit_wei)
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
    account_id: PathAccountId, body: models.Suspension, parts: TheParts
) -> models.Account:
    """Suspend an account: its keys are refused at once, and its running sessions stop."""
    command = contract.SuspendAccount(account_id=account_id, reason=body.reason)
    return _account(await ask(parts.client, command, contract.AccountView))


@router.post("/{account_id}/resume", dependencies=NEEDS_ADMINISTRATOR)
async def resume_account(account_id: PathAccountId, parts: TheParts) -> models.Account:
    """End a suspension."""
    command = contract.ResumeAccount(account_id=account_id)
    return _account(await ask(parts.client, command, contract.AccountView))


@router.put("/{account_id}/payer", dependencies=NEEDS_ADMINISTRATOR)
async def set_payer(account_id: PathAccountId, body: models.NextPayer, parts: TheParts) -> models.Account:
    """Choose who pays for the account's next keys. A key keeps the payer it was issued with."""
    await _require_known(parts, account_id, body.payer)
    command = contract.SetPayer(account_id=account_id, payer=body.payer)
    return _account(await ask(parts.client, command, contract.AccountView))


@router.post("/{account_id}/keys", status_code=201, dependencies=NEEDS_ADMINISTRATOR, tags=["Keys"])
async def issue_key(
    account_id: PathAccountId, parts: TheParts, body: models.KeyRequest | None = None
) -> models.IssuedKey:
    """Issue an API key. It is shown in this answer and never again."""
    key = keys.make()
    command = contract.IssueApiKey(
        account_id=account_id,
        key_id=key.key_id,
        secret_hash=parts.authenticator.hash(key),
        user_id=body.user_id if body else None,
    )
    issued = await ask(parts.client, command, contract.ApiKeyView)
    token = sdk_token(parts.public_url, key)
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
    account_id: PathAccountId, key_id: Annotated[models.KeyId, Path()], parts: TheParts
) -> models.Key:
    """Revoke a key at once and for ever."""
    command = contract.RevokeApiKey(account_id=account_id, key_id=key_id)
    return _key(await ask(parts.client, command, contract.ApiKeyView))


@router.get("/{account_id}/limits", dependencies=NEEDS_KEY, tags=["Limits"])
async def read_limits(account_id: ReadableAccount, parts: TheParts) -> models.Limits:
    """Read what an account may spend, and what is left of it."""
    await ask(parts.client, contract.GetAccount(account_id=account_id), contract.AccountView)
    asked = quota.ReadBudget(account_id=account_id)
    return _limits(await ask(parts.client, asked, quota.BudgetView))


@router.put("/{account_id}/limits", dependencies=NEEDS_ADMINISTRATOR, tags=["Limits"])
async def set_limits(account_id: PathAccountId, body: models.SpendLimit, parts: TheParts) -> models.Limits:
    """Set what an account may spend in all."""
    await ask(parts.client, contract.GetAccount(account_id=account_id), contract.AccountView)
    return _limits(await _set_limit(parts, account_id, body.spend_limit_wei))


def sdk_token(public_url: str, key: keys.Key) -> str:
    """Return what the Livepeer SDK takes as its token: where we are and how to show the key."""
    headers = {"Authorization": f"Bearer {key.text}"}
    content = {
        "signer": public_url,
        "signer_headers": headers,
        "discovery": f"{public_url}/discover-orchestrators",
        "discovery_headers": headers,
    }
    return b64encode(to_json(content)).decode()


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


async def _set_limit(parts: TheParts, account_id: str, wei: str) -> quota.BudgetView:
    command = quota.SetSpendLimit(account_id=account_id, spend_limit=int(wei))
    return await ask(parts.client, command, quota.BudgetView)


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


def _limits(view: quota.BudgetView) -> models.Limits:
    return models.Limits(
        account_id=view.account_id,
        spend_limit_wei=view.spend_limit,
        spent_wei=view.spent,
        held_wei=view.held,
        remaining_wei=view.remaining,
        suspended=view.suspended,
    )
