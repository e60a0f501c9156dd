"""The Livepeer wire: what gateways and the SDK call instead of a signer of their own.

Plain routes: nothing is parsed here but what the edge itself needs.
"""

import re
from collections.abc import Awaitable, Callable

from fastapi import FastAPI
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from contracts.signer import GeneratePayment, PaymentRefusedAnswer, PaymentSignedAnswer
from services.edge import keys
from services.edge.auth import AuthenticationRefused, NotReadyError
from services.edge.discovery import OrchestratorsUnknownError
from services.edge.gate import Headers
from services.edge.line import Unanswered
from services.edge.parts import parts_of
from services.edge.problems import FIXED_TEXTS, WireRefusal, envelope
from services.edge.tokens import token_id_of
from shared.bus import CommandRefusedError, ServiceUnavailableError

OPAQUE_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
# JSON has no control characters but these blanks. Kept out, a body at most doubles on the bus.
NEVER_IN_JSON = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
HEADER_URL = re.compile(r"[\x21-\x7e]{1,2048}")  # it comes from an orchestrator by way of a client
UNAVAILABLE = 503
RETRY_AFTER = {"Retry-After": "1"}

type Handler = Callable[[Request], Awaitable[Response]]


class WireRoute:
    """One path of the wire: an ASGI application of its own, so that the gate can take a short cut."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._handler(request)
        except NotReadyError:
            response = refuse(request, _unavailable())
        except AuthenticationRefused as refused:
            kept_out = WireRefusal(refused.status, str(refused), refused.headers)
            response = refuse(request, kept_out)
        except WireRefusal as refusal:
            response = refuse(request, refusal)
        await response(scope, receive, send)


def add_routes(app: FastAPI) -> dict[tuple[str, str], ASGIApp]:
    """Add the wire to the application; return its routes by method and path, for the gate."""
    routes: dict[tuple[str, str], ASGIApp] = {
        ("POST", "/sign-orchestrator-info"): WireRoute(sign_orchestrator_info),
        ("POST", "/generate-live-payment"): WireRoute(generate_live_payment),
        ("GET", "/discover-orchestrators"): WireRoute(discover_orchestrators),
    }
    for (method, path), route in routes.items():
        # Starlette takes an ASGI application here as well, its annotation does not say so.
        app.add_route(path, route, methods=[method], name=path, include_in_schema=False)  # type: ignore[arg-type]
    app.add_route("/healthz", healthy, methods=["GET"], include_in_schema=False)
    return routes


async def healthy(_: Request) -> Response:
    """As go-livepeer's signer tells load balancers; whether we are ready is on the operators' port."""
    return Response()


def refuse(request: Request, refusal: WireRefusal) -> Response:
    body = envelope(refusal.status, refusal.message, request.scope["request_id"])
    return Response(body, refusal.status, refusal.headers, "application/json")


async def sign_orchestrator_info(request: Request) -> Response:
    parts = parts_of(request)
    identity = await parts.admission.admit(request.scope)
    try:
        signed = await parts.signatures.get(identity.account_id, identity.payer)
    except (ServiceUnavailableError, CommandRefusedError) as problem:
        raise _unavailable() from problem
    return _json({"address": signed.address, "signature": signed.signature})


async def generate_live_payment(request: Request) -> Response:
    parts = parts_of(request)
    identity = await parts.admission.admit(request.scope)
    head, body = request.scope["head"], request.scope["body"]
    user_id = identity.user_id or _opaque_id(head, b"clearinghouse-user")
    parts.admission.count_payment(identity, user_id, request.scope)
    payment = GeneratePayment(
        request_id=request.scope["request_id"],
        account_id=identity.account_id,
        key_id=identity.key_id,
        user_id=user_id,
        stream_id=_opaque_id(head, b"clearinghouse-stream"),
        job_id=_opaque_id(head, b"idempotency-key"),
        user_bound=identity.user_id is not None,
        body=_text(body),
        payer=identity.payer,
        token_id=token_id_of(identity),
    )
    outcome = await parts.gatherer.generate(payment, len(body))
    if isinstance(outcome, PaymentSignedAnswer):
        return Response(outcome.body + "\n", media_type="application/json")
    raise _refusal_of(outcome)


async def discover_orchestrators(request: Request) -> Response:
    parts = parts_of(request)
    await parts.admission.admit(request.scope)
    try:
        found = parts.orchestrators.find(request.query_params.getlist("caps"))
    except OrchestratorsUnknownError as problem:
        raise _unavailable() from problem
    return Response(found + b"\n", media_type="application/json")


def _text(body: bytes) -> str:
    try:
        text = body.decode()
    except UnicodeDecodeError as problem:
        raise WireRefusal(400, "the body is not UTF-8") from problem
    if NEVER_IN_JSON.search(text):
        raise WireRefusal(400, "the body is not JSON: it has control characters")
    return text


def _opaque_id(head: Headers, name: bytes) -> str | None:
    value = head.get(name)
    if value is None:
        return None
    title = name.decode().title()
    if value.startswith(keys.PREFIX.encode() + b"_"):
        raise WireRefusal(400, f"header {title}: an API key is no id, ids are kept")
    if not OPAQUE_ID.fullmatch(value):
        raise WireRefusal(400, f"header {title}: at most 128 characters of A-Z a-z 0-9 . _ : -")
    return value.decode("ascii")


def _refusal_of(outcome: PaymentRefusedAnswer | Unanswered) -> WireRefusal:
    if isinstance(outcome, Unanswered):
        return _unavailable()
    headers = dict(RETRY_AFTER) if outcome.status == UNAVAILABLE else {}
    if outcome.retry_after_seconds is not None:
        headers["Retry-After"] = str(outcome.retry_after_seconds)
    if outcome.orchestrator_url is not None and HEADER_URL.fullmatch(outcome.orchestrator_url):
        headers["Livepeer-Orchestrator-Url"] = outcome.orchestrator_url
    return WireRefusal(outcome.status, outcome.message, headers)


def _unavailable() -> WireRefusal:
    return WireRefusal(503, FIXED_TEXTS[503], RETRY_AFTER)


def _json(content: object) -> Response:
    return Response(to_json(content) + b"\n", media_type="application/json")
