"""Session tokens: an API key is exchanged for one of a user, as RFC 8693 has it; and it is ended early."""

import asyncio
import time
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, Field, SecretStr

from contracts.accounts import Identity
from contracts.api_keys import sdk_token
from contracts.limits import EndToken, Limits, LimitsView, SetLimits
from services.edge.auth import Administrator, AuthenticationRefused, KeyRefused
from services.edge.parts import Parts
from services.edge.problems import Refused
from services.edge.routes import limit_models as models
from services.edge.routes.access import NEEDS_KEY, AnyCaller, Caller, ReadableAccount, TheParts, kept_out
from services.edge.routes.actors import TheActor
from services.edge.routes.limits import require_account
from services.edge.routes.models import KeyId
from services.edge.routes.token_request import DESCRIBED, JWT_TYPE, bad_request, read_request
from services.edge.rules import RulesUnknownError
from services.edge.tokens import SessionToken, SessionTokens, TokenHolder
from shared.bus import ask

router = APIRouter(prefix="/v1", tags=["Tokens"])

ARRIVAL_SECONDS, POLL_SECONDS = 1.0, 0.01
NOT_TO_BE_KEPT = {"Cache-Control": "no-store", "Pragma": "no-cache"}

type TokenId = KeyId  # they look alike


class IssuedToken(BaseModel):
    """A new session token. Its text is shown this once and kept nowhere."""

    access_token: str = Field(description="Send it as `Authorization: Bearer …`.")
    issued_token_type: str = JWT_TYPE
    token_type: str = "Bearer"  # noqa: S105 (RFC 6750's word)
    expires_in: int = Field(description="Seconds.")
    token_id: str = Field(description="Its name where its limits and usage are told.")
    sdk_token: str = Field(description="The ready token for the Livepeer SDK.")


def configured(parts: TheParts) -> SessionTokens:
    if parts.tokens is None:
        raise Refused(503, "tokens_not_configured", "there are no keys to make session tokens with")
    return parts.tokens


type TheTokens = Annotated[SessionTokens, Depends(configured)]


@router.post("/tokens", dependencies=NEEDS_KEY, openapi_extra=DESCRIBED)
async def exchange_token(
    caller: AnyCaller, request: Request, parts: TheParts, tokens: TheTokens, response: Response
) -> IssuedToken:
    """Exchange an API key for a session token of one user: short-lived, with limits of its own.

    It stops with its key. An account's key makes tokens of any of its users, a user's key of its own
    user only; a session token makes none.
    """
    asked = read_request(request.headers.get("content-type", ""), request.scope["body"])
    subject = await _subject(caller, asked.subject_token, request, parts)
    _count(parts, subject)
    limits = asked.limits.model_dump(exclude_none=True)
    token = tokens.make(
        account_id=subject.account_id,
        user_id=_user_of(subject, asked.user_id),
        key_id=subject.key_id,
        lifetime=timedelta(seconds=asked.expires_in),
        limited=bool(limits),
    )
    if limits:
        await _set_limits(parts, token, Limits.model_validate({**limits, "expires_at": token.expires_at}))
    response.headers.update(NOT_TO_BE_KEPT)
    return IssuedToken(
        access_token=token.text,
        expires_in=asked.expires_in,
        token_id=token.token_id,
        sdk_token=sdk_token(parts.public_url, token.text),
    )


@router.delete("/accounts/{account_id}/tokens/{token_id}", status_code=204, dependencies=NEEDS_KEY)
async def end_token(  # noqa: PLR0917 (FastAPI gives them by name)
    account_id: ReadableAccount,
    token_id: Annotated[TokenId, Path()],
    caller: AnyCaller,
    parts: TheParts,
    actor: TheActor,
    reason: Annotated[models.Reason, Query()] = models.UNSPECIFIED,
) -> None:
    """End a session token of an account before its time: within a second it is refused everywhere.

    What its sessions hold comes back. Tokens are kept nowhere, so any id is taken; a repeat is no harm.
    """
    if not isinstance(caller, Administrator):
        _count(parts, caller)
    await require_account(parts, account_id)
    command = EndToken(account_id=account_id, token_id=token_id, actor=actor, reason=reason)
    await ask(parts.client, command, LimitsView)


async def _subject(caller: Caller, shown: SecretStr | None, request: Request, parts: Parts) -> Identity:
    """Whose key is exchanged: the caller's, or another one of his account that he shows."""
    if isinstance(caller, (Administrator, TokenHolder)):
        raise bad_request("unauthorized_client", "an account's or a user's API key is needed")
    if shown is None:
        return caller
    header = f"Bearer {shown.get_secret_value()}".encode()
    try:
        subject = await parts.authenticator.authenticate(header, may_ask=False)
        parts.admission.check(subject, subject.user_id, request.scope)
    except KeyRefused as refused:
        raise bad_request("invalid_request", f"subject_token: {refused}") from refused
    except AuthenticationRefused as refused:
        raise kept_out(refused) from refused
    foreign = subject.account_id != caller.account_id or caller.user_id not in {None, subject.user_id}
    if foreign or isinstance(subject, TokenHolder):
        raise bad_request("invalid_request", "subject_token: an API key of this account is needed")
    return subject


def _count(parts: Parts, subject: Identity) -> None:
    try:
        parts.admission.count_token(subject)
    except AuthenticationRefused as refused:
        raise kept_out(refused) from refused


def _user_of(subject: Identity, user_id: str | None) -> str:
    if subject.user_id is not None and user_id not in {None, subject.user_id}:
        raise bad_request("invalid_request", "user_id: this key makes tokens of its own user only")
    found = subject.user_id or user_id
    if found is None:
        raise bad_request("invalid_request", "user_id is missing: a session token is one user's")
    return found


async def _set_limits(parts: Parts, token: SessionToken, limits: Limits) -> None:
    """Have the limits stored, and known here: whoever shows the token now is not to be refused."""
    command = SetLimits(
        account_id=token.account_id,
        token_id=token.token_id,
        limits=limits,
        actor=f"key:{token.key_id}",
        reason="session_token",
    )
    await ask(parts.client, command, LimitsView)
    until = time.monotonic() + ARRIVAL_SECONDS
    while not _have_arrived(parts, token) and time.monotonic() < until:
        await asyncio.sleep(POLL_SECONDS)


def _have_arrived(parts: Parts, token: SessionToken) -> bool:
    try:
        bounds = parts.rules.of(
            token.account_id, user_id=token.user_id, key_id=token.key_id, token_id=token.token_id
        )
    except RulesUnknownError:
        return False
    return bounds.has_token
