"""Payment sessions and their timelines, the pools and redemptions."""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from contracts import deposit_watcher, metering, quota, signer
from contracts.accounts import Identity
from services.edge.problems import UNPROCESSABLE, FieldError, Refused
from services.edge.routes import cursor, models
from services.edge.routes.access import (
    NEEDS_ADMINISTRATOR,
    NEEDS_KEY,
    AnyCaller,
    Caller,
    ReadableAccount,
    TheParts,
    require_readable,
)
from shared.bus import ask

router = APIRouter(prefix="/v1")

type SessionId = Annotated[models.OpaqueId, Path()]
type OfPayer = Annotated[
    models.PayerAddress | None, Query(alias="payer", description="Whose pool; needed if there are several.")
]
type OfKind = Annotated[
    deposit_watcher.RedemptionKind | None, Query(description="Those that are this to us; none: all.")
]
type OfAccount = Annotated[
    models.AccountId | None, Query(alias="account", description="Whose session; an administrator says.")
]


@router.get("/sessions", dependencies=NEEDS_ADMINISTRATOR, tags=["Sessions"])
async def list_sessions(
    parts: TheParts, limit: cursor.Limit = 50, cursor_: cursor.NamedCursor = None
) -> models.SessionPage:
    """List the payment sessions of all accounts."""
    asked = metering.ListSessions(limit=limit, after=cursor.decode_one(cursor_))
    return await _sessions(parts, asked)


@router.get("/accounts/{account_id}/sessions", dependencies=NEEDS_KEY, tags=["Sessions"])
async def list_account_sessions(
    account_id: ReadableAccount,
    parts: TheParts,
    limit: cursor.Limit = 50,
    cursor_: cursor.NamedCursor = None,
) -> models.SessionPage:
    """List the payment sessions of one account."""
    after = cursor.decode_one(cursor_)
    asked = metering.ListSessions(account_id=account_id, limit=limit, after=after)
    return await _sessions(parts, asked)


@router.get("/sessions/{session_id}", dependencies=NEEDS_KEY, tags=["Sessions"])
async def read_session(
    session_id: SessionId, caller: AnyCaller, parts: TheParts, account: OfAccount = None
) -> models.Session:
    """Read one payment session as it stands."""
    view = await _session(parts, _account_of(caller, account), session_id)
    return models.Session.model_validate(view, from_attributes=True)


@router.get("/sessions/{session_id}/timeline", dependencies=NEEDS_KEY, tags=["Sessions"])
async def read_timeline(
    session_id: SessionId, caller: AnyCaller, parts: TheParts, account: OfAccount = None
) -> models.Timeline:
    """Read what happened to a session: why did my stream stop?"""
    view = await _session(parts, _account_of(caller, account), session_id)
    return models.Timeline.model_validate(view, from_attributes=True)


@router.get("/pool", dependencies=NEEDS_ADMINISTRATOR, tags=["Pools"])
async def read_pool(parts: TheParts, payer: OfPayer = None) -> models.Pool:
    """Read one payer's funds, and how much of them is at stake."""
    return _pool(await ask(parts.client, quota.ReadPool(payer=payer), quota.PoolView))


@router.get("/pools", dependencies=NEEDS_ADMINISTRATOR, tags=["Pools"])
async def list_pools(parts: TheParts) -> models.Pools:
    """List the pools of all payers."""
    page = await ask(parts.client, quota.ListPools(), quota.PoolPage)
    return models.Pools(pools=[_pool(view) for view in page.pools])


@router.get("/redemptions", dependencies=NEEDS_ADMINISTRATOR, tags=["Pools"])
async def list_redemptions(
    parts: TheParts, kind: OfKind = None, limit: cursor.Limit = 100, cursor_: cursor.NamedCursor = None
) -> models.RedemptionPage:
    """List redeemed tickets, the newest block first."""
    after = cursor.decode_one(cursor_)
    asked = deposit_watcher.ReadRedemptions(redemption_kind=kind, limit=limit, after=after)
    page = await ask(parts.client, asked, deposit_watcher.RedemptionPage)
    following = cursor.next_of(page.redemptions, limit, lambda row: [row.redemption_id])
    return models.RedemptionPage(redemptions=[_redemption(row) for row in page.redemptions], next=following)


async def _sessions(parts: TheParts, asked: metering.ListSessions) -> models.SessionPage:
    page = await ask(parts.client, asked, metering.SessionPage)
    rows = [models.SessionRow.model_validate(row, from_attributes=True) for row in page.sessions]
    following = cursor.next_of(page.sessions, asked.limit, lambda row: [row.session_id])
    return models.SessionPage(sessions=rows, next=following)


def _pool(view: quota.PoolView) -> models.Pool:
    return models.Pool(
        payer=view.payer,
        deposit_wei=view.deposit,
        reserve_wei=view.reserve,
        cover_wei=view.cover,
        exposure_wei=view.exposure,
        held_wei=view.held,
        round=view.round,
        observed_at=view.observed_at,
    )


def _redemption(row: deposit_watcher.RedemptionRow) -> models.Redemption:
    return models.Redemption(
        redemption_id=row.redemption_id,
        kind=row.redemption_kind,
        reason=row.reason,
        payer=row.payer,
        recipient=row.recipient,
        recipient_rand_hash=row.recipient_rand_hash,
        sender_nonce=row.sender_nonce,
        face_value_wei=row.face_value,
        win_prob=row.win_prob,
        paid_wei=row.paid,
        creation_round=row.creation_round,
        tx_hash=row.tx_hash,
        log_index=row.log_index,
        block=row.block,
        seen_at=row.seen_at,
    )


async def _session(parts: TheParts, account_id: str, session_id: str) -> signer.SessionView:
    asked = signer.ReadSession(account_id=account_id, session_id=session_id)
    return await ask(parts.client, asked, signer.SessionView)


def _account_of(caller: Caller, account: str | None) -> str:
    if account is None and isinstance(caller, Identity):
        account = caller.account_id
    if account is None:
        error = FieldError(field="query.account", message="an administrator has to say whose")
        raise Refused(UNPROCESSABLE, "invalid_request", "query.account is missing", errors=[error])
    require_readable(account, caller)
    return account
