"""The hooks of go-livepeer: may this stream start, may this payment be made?

`POST /auth/stream` is for a gateway's `-authWebhookUrl`, `POST /authorize` for the auth webhook of
an unmodified go-livepeer signer.
"""

import binascii
import hashlib
import hmac
from base64 import b64decode
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.security import APIKeyHeader, APIKeyQuery, HTTPBearer
from fastapi.security.http import HTTPBase
from pydantic import AfterValidator, BaseModel, Field, StringConstraints, TypeAdapter, ValidationError
from starlette.types import Scope

from contracts.accounts import Identity
from contracts.limits import PRINTABLE, JobType
from contracts.stream_starts import (
    LEASE_SECONDS_MAX,
    LEASE_SECONDS_MIN,
    AuthorizePayment,
    BeginStream,
    PaymentAuthorized,
)
from services.edge.auth import AuthenticationRefused
from services.edge.parts import Parts
from services.edge.payment_state import PaymentToAuthorize
from services.edge.problems import Refused
from services.edge.routes.access import TheParts, kept_out
from services.edge.routes.models import OpaqueId
from services.edge.routes.streams import REFUSED, begin, make_stream_id
from services.edge.tokens import token_id_of
from shared.bus import ServiceUnavailableError, ask

OK, FORBIDDEN, INSUFFICIENT, UNAVAILABLE = 200, 403, 483, 503
# What others who answer this webhook call these.
CODES = {INSUFFICIENT: "insufficient_balance", UNAVAILABLE: "billing_unavailable"}
SECRET_HEADERS = (b"x-api-key", b"x-webhook-secret")
BEARER, BASIC = b"bearer ", b"basic "
RECORDINGS = "/recordings/"
USER_ID: TypeAdapter[str] = TypeAdapter(OpaqueId)

KEYS_OF_STREAM_HOOK = [
    Depends(scheme)
    for scheme in (
        APIKeyQuery(scheme_name="HookKey", name="key", description="An API key.", auto_error=False),
        HTTPBase(
            scheme="basic", scheme_name="HookBasic", description="An API key as password.", auto_error=False
        ),
        HTTPBearer(scheme_name="ApiKey", auto_error=False),
    )
]
SECRETS_OF_PAYMENT_HOOK = [
    Depends(scheme)
    for scheme in (
        HTTPBearer(scheme_name="HookSecret", description="A secret of hooks.", auto_error=False),
        APIKeyHeader(scheme_name="HookSecretAsKey", name="X-Api-Key", auto_error=False),
        APIKeyHeader(scheme_name="HookSecretHeader", name="X-Webhook-Secret", auto_error=False),
    )
]

router = APIRouter(tags=["Hooks"])


def _check_url(text: str) -> str:
    urlsplit(text)  # raises ValueError with what is wrong
    return text


class StreamToStart(BaseModel):
    """What a gateway tells of a stream that comes in."""

    url: Annotated[str, StringConstraints(max_length=4096), AfterValidator(_check_url)] = Field(
        description="RTMP with the stream's key, or a path of HTTP ingest."
    )


class StartedStream(BaseModel):
    manifestID: str = Field(description="The stream's id under `/v1/streams`.")  # noqa: N815 (go-livepeer's name)


class PaymentDecision(BaseModel):
    """`status` is what the signer answers its client; 200: go on."""

    status: int
    reason: str | None = None
    code: str | None = None
    expiry: int = Field(default=0, description="Ask again with each payment.")
    auth_id: str | None = Field(
        default=None, description="`account:user`, up to the first colon the account; no user: `account:`."
    )


type UserOfHook = Annotated[
    OpaqueId | None, Query(description="Whose streams; else `user` in the stream's URL.")
]
type LeaseOfHook = Annotated[
    int,
    Query(
        ge=LEASE_SECONDS_MIN,
        le=LEASE_SECONDS_MAX,
        description="For how long a stream that nobody ends holds its place.",
    ),
]
type AppOfHook = Annotated[str, Query(max_length=128, pattern=PRINTABLE)]
type JobTypeOfHook = Annotated[JobType, Query()]


@router.post(
    "/auth/stream", dependencies=KEYS_OF_STREAM_HOOK, response_model=StartedStream, responses=REFUSED
)
async def authorize_stream(  # noqa: PLR0917 (each is a query parameter)
    request: Request,
    body: StreamToStart,
    parts: TheParts,
    user: UserOfHook = None,
    lease: LeaseOfHook = LEASE_SECONDS_MAX,
    app: AppOfHook = "",
    job_type: JobTypeOfHook = "",
) -> StartedStream | Response:
    """Answer a gateway's `-authWebhookUrl`: 200, or the stream is not let in.

    The stream holds a place until `POST /v1/streams/{manifestID}/end` or the end of its lease: the
    gateway tells nobody that it goes on. The end of a lease ends the count, not the stream. Whoever
    plays a recording starts none: the answer is empty then, and the gateway decides.
    """
    scope = _as_if_shown(request.scope, _key_of_hook(request))
    try:
        identity = await parts.admission.admit(scope)
        user_id = identity.user_id or user or _user_in(body.url)
        parts.admission.check(identity, user_id, scope)
    except AuthenticationRefused as refused:
        raise kept_out(refused) from refused
    request.scope["account_id"] = identity.account_id
    if urlsplit(body.url).path.startswith(RECORDINGS):
        return Response()
    command = BeginStream(
        account_id=identity.account_id,
        stream_id=make_stream_id(),
        user_id=user_id,
        key_id=identity.key_id,
        token_id=token_id_of(identity),
        app=app,
        job_type=job_type,
        lease_seconds=lease,
    )
    begun = await begin(parts, command)
    return StartedStream(manifestID=begun.stream_id)


async def hook_caller(request: Request, parts: TheParts) -> None:
    """Raise unless the request shows one of our secrets of hooks."""
    if not shows_hook_secret(request, parts):
        headers = {"WWW-Authenticate": "Bearer"}
        raise Refused(401, "hook_secret_refused", "this needs a secret of hooks", headers=headers)


def shows_hook_secret(request: Request, parts: Parts) -> bool:
    digests = [hashlib.sha256(secret).hexdigest() for secret in _secrets_in(request.scope["head"])]
    known = False
    for digest in digests:
        for secret in parts.hook_secrets:
            known |= hmac.compare_digest(digest, secret)
    return known


@router.post(
    "/authorize",
    dependencies=[*SECRETS_OF_PAYMENT_HOOK, Depends(hook_caller)],
    response_model_exclude_none=True,
)
async def authorize_payment(request: Request, body: PaymentToAuthorize, parts: TheParts) -> PaymentDecision:
    """Answer the auth webhook of an unmodified go-livepeer signer, with 200 whatever is decided.

    Whose payment it is says the API key that its customer showed. What the payment costs is not told:
    quota holds an estimate from the state, which counts as spent once the session is idle.
    """
    shown = body.header("authorization")
    scope = _as_if_shown(request.scope, shown.encode() if shown is not None else None)
    try:
        identity = await parts.admission.admit(scope)
        user_id = identity.user_id or _user_id(body.header("clearinghouse-user"))
        parts.admission.count_payment(identity, user_id, scope)
    except (AuthenticationRefused, Refused) as refused:
        return PaymentDecision(status=refused.status, reason=str(refused), code=refused.code)
    request.scope["account_id"] = identity.account_id
    return await _decide(parts, identity, user_id, body)


async def _decide(
    parts: Parts, identity: Identity, user_id: str | None, body: PaymentToAuthorize
) -> PaymentDecision:
    state = body.state
    command = AuthorizePayment(
        account_id=identity.account_id,
        user_id=user_id,
        key_id=identity.key_id,
        state_id=state.state_id,
        sequence=state.sequence,
        balance=state.balance,
        price_per_unit=state.price_per_unit,
        pixels_per_unit=state.pixels_per_unit,
        job_type=state.job_type,
        last_update_ns=state.last_update_ns,
        app=state.app,
        orchestrator=state.orchestrator_address.lower(),
        token_id=token_id_of(identity),
    )
    try:
        answer = await ask(parts.client, command, PaymentAuthorized)
    except ServiceUnavailableError:
        return PaymentDecision(status=UNAVAILABLE, reason="billing unavailable", code=CODES[UNAVAILABLE])
    if answer.status == OK:
        return PaymentDecision(status=OK, auth_id=f"{identity.account_id}:{user_id or ''}")
    return PaymentDecision(status=answer.status, reason=answer.reason, code=CODES.get(answer.status))


def _as_if_shown(scope: Scope, header: bytes | None) -> Scope:
    """The request, with another key than its Authorization header has; None: with none."""
    head = {name: value for name, value in scope["head"].items() if name != b"authorization"}
    if header is not None:
        head[b"authorization"] = header
    return {**scope, "head": head}


def _key_of_hook(request: Request) -> bytes | None:
    """The key in the hook's URL, where gateways can say nothing else; else that of the header."""
    in_url = request.query_params.get("key")
    header: bytes | None = request.scope["head"].get(b"authorization")
    if in_url is not None:
        return b"Bearer " + in_url.encode()
    if header is not None and header[: len(BASIC)].lower() == BASIC:
        return b"Bearer " + _of_basic(header[len(BASIC) :])
    return header


def _of_basic(credentials: bytes) -> bytes:
    """The password; the user name where there is none."""
    try:
        name, _, password = b64decode(credentials, validate=True).partition(b":")
    except binascii.Error:
        return b""
    return password or name


def _secrets_in(head: dict[bytes, bytes]) -> list[bytes]:
    bearer = head.get(b"authorization", b"")
    shown = [head[name] for name in SECRET_HEADERS if name in head]
    return [bearer[len(BEARER) :].strip(), *shown] if bearer[: len(BEARER)].lower() == BEARER else shown


def _user_in(url: str) -> str | None:
    named = parse_qs(urlsplit(url).query).get("user")
    return _user_id(named[0]) if named else None


def _user_id(text: str | None) -> str | None:
    """Raises Refused."""
    if text is None:
        return None
    try:
        return USER_ID.validate_python(text)
    except ValidationError:
        detail = "the user is told by at most 128 characters of A-Z a-z 0-9 . _ : -"
        raise Refused(FORBIDDEN, "bad_user", detail) from None
