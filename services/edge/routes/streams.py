"""`/v1/streams`: may this stream start, and how long is its place held?

For proxies that stand before the media: who begins a stream holds one of the places of
`streams_max` until it ends, or until no heartbeat came for its lease.
"""

import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from contracts import stream_starts as contract
from contracts.accounts import Identity
from services.edge.parts import Parts
from services.edge.problems import UNPROCESSABLE, FieldError, Problem, Refused, title
from services.edge.rate_limits import DESCRIBED, rate_limit_fields
from services.edge.routes import cursor
from services.edge.routes import limit_models as models
from services.edge.routes.access import NEEDS_KEY, AnyCaller, Caller, TheParts, require_readable
from services.edge.routes.limits import require_account
from services.edge.routes.models import AccountId, OpaqueId
from services.edge.tokens import token_id_of
from shared.bus import ask

REFUSED: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": title(status), "headers": DESCRIBED}
    for status in (402, 403, 429)
}

router = APIRouter(prefix="/v1", tags=["Streams"], dependencies=NEEDS_KEY)

type StreamId = Annotated[OpaqueId, Path()]
type OfAccount = Annotated[
    AccountId | None, Query(alias="account", description="Whose stream; an administrator says.")
]


@router.post("/streams", status_code=201, responses={201: {"headers": DESCRIBED}, **REFUSED})
async def begin_stream(
    body: models.StreamToBegin, caller: AnyCaller, parts: TheParts, response: Response
) -> models.BegunStream:
    """Ask whether a user's stream may start, and hold a place for it.

    The same stream again renews its lease, and is answered the same.
    """
    command = await _command(parts, caller, body)
    return _answer(await begin(parts, command), parts, response)


@router.post("/streams/{stream_id}/heartbeat", responses={200: {"headers": DESCRIBED}, **REFUSED})
async def keep_stream(
    stream_id: StreamId, caller: AnyCaller, parts: TheParts, response: Response, account: OfAccount = None
) -> models.BegunStream:
    """Say that a stream goes on: its lease begins anew."""
    command = contract.BeatStream(
        account_id=_account_of(caller, account, "query.account"),
        stream_id=stream_id,
        user_id=_user_of(caller),
    )
    return _answer(await _ask(parts, command), parts, response)


@router.post("/streams/{stream_id}/end")
async def end_stream(
    stream_id: StreamId, caller: AnyCaller, parts: TheParts, account: OfAccount = None
) -> models.Stream:
    """Say that a stream has ended: its place is free at once. One that does not run is not found."""
    command = contract.EndStream(
        account_id=_account_of(caller, account, "query.account"),
        stream_id=stream_id,
        user_id=_user_of(caller),
    )
    return _stream(await ask(parts.client, command, contract.StreamView))


@router.get("/streams")
async def list_streams(
    caller: AnyCaller,
    parts: TheParts,
    account: OfAccount = None,
    limit: cursor.Limit = 50,
    cursor_: cursor.NamedCursor = None,
) -> models.StreamPage:
    """List an account's streams that hold a place now, by id."""
    account_id = _account_of(caller, account, "query.account")
    require_readable(account_id, caller)
    asked = contract.ListStreams(account_id=account_id, after=cursor.decode_one(cursor_), limit=limit)
    page = await ask(parts.client, asked, contract.StreamPage)
    following = cursor.next_of(page.streams, limit, lambda stream: [stream.stream_id])
    return models.StreamPage(streams=[_stream(view) for view in page.streams], next=following)


async def begin(parts: Parts, command: contract.BeginStream) -> contract.StreamBegun:
    """Raise Refused, with the limits that refused, unless it may start."""
    return await _ask(parts, command)


def make_stream_id() -> str:
    return secrets.token_hex(16)


async def _command(parts: Parts, caller: Caller, body: models.StreamToBegin) -> contract.BeginStream:
    account_id = _account_of(caller, body.account_id, "body.account_id")
    identity = caller if isinstance(caller, Identity) else None
    if identity is None:
        await require_account(parts, account_id)
    elif identity.user_id is not None and body.user_id not in {None, identity.user_id}:
        raise Refused(403, "key_scope", "this key begins streams of its own user only")
    return contract.BeginStream(
        account_id=account_id,
        stream_id=body.stream_id or make_stream_id(),
        user_id=(identity.user_id if identity else None) or body.user_id,
        key_id=identity.key_id if identity else None,
        token_id=token_id_of(identity) if identity else None,
        app=body.app,
        job_type=body.job_type,
        lease_seconds=body.lease_seconds,
    )


async def _ask(parts: Parts, command: contract.BeginStream | contract.BeatStream) -> contract.StreamBegun:
    # A union of messages is read like one.
    replies: Any = contract.StreamBegun | contract.StreamRefused
    answer: contract.StreamBegun | contract.StreamRefused = await ask(parts.client, command, replies)
    if isinstance(answer, contract.StreamRefused):
        raise _refused(answer, parts)
    return answer


def _refused(answer: contract.StreamRefused, parts: Parts) -> Refused:
    headers = rate_limit_fields(answer.rows, parts.clock.now())
    if answer.retry_after_seconds is not None:
        headers["Retry-After"] = str(answer.retry_after_seconds)
    return Refused(answer.status, answer.code, answer.message, limits=answer.rows, headers=headers)


def _account_of(caller: Caller, named: str | None, field: str) -> str:
    """A key is its account's; an administrator says whose. Foreign ones answer like missing ones."""
    if isinstance(caller, Identity):
        if named not in {None, caller.account_id}:
            raise Refused(404, "account_not_found", f"there is no account {named}")
        return caller.account_id
    if named is None:
        error = FieldError(field=field, message="an administrator has to say whose")
        raise Refused(UNPROCESSABLE, "invalid_request", f"{field} is missing", errors=[error])
    return named


def _user_of(caller: Caller) -> str | None:
    return caller.user_id if isinstance(caller, Identity) else None


def _answer(begun: contract.StreamBegun, parts: Parts, response: Response) -> models.BegunStream:
    response.headers.update(rate_limit_fields(begun.rows, parts.clock.now()))
    return models.BegunStream(
        stream_id=begun.stream_id,
        account_id=begun.account_id,
        user_id=begun.user_id,
        begun_at=begun.begun_at,
        lease_ends_at=begun.lease_ends_at,
        limits=begun.rows,
    )


def _stream(view: contract.StreamView) -> models.Stream:
    return models.Stream.model_validate(view, from_attributes=True)
