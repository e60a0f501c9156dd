"""Signing in with an API key or a session token, and out again."""

from urllib.parse import parse_qs

import structlog
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import Scope

from contracts.limits import EndToken, LimitsView
from services.edge.auth import AuthenticationRefused, KeyExpired, NotReadyError, TooMany, UnknownKey
from services.edge.console.pages import HEADERS, Pages
from services.edge.console.visitors import (
    cookie_name,
    drop_cookie,
    is_reachable_safely,
    set_cookie,
    viewer_of,
)
from services.edge.parts import Parts, parts_of
from shared.bus import CommandRefusedError, ServiceUnavailableError, ask

log = structlog.get_logger()

HOME = "/usage"
FIELDS_MAX = 8
CREDENTIAL, FORM_TOKEN = "credential", "form_token"
UNKNOWN = (
    "This is no API key or session token of ours. "
    "A key begins with lpch_ and was shown once, when it was issued."
)
EXPIRED = "This key or session token has expired. Ask whoever issued it for another one."
ADMINISTRATOR = "An administrator's key belongs to no account. Sign in with an API key of the account."


def form(pages: Pages, parts: Parts, *, status: int = 200, problem: str = "") -> Response:
    return pages.answer(
        "sign_in.html",
        status,
        problem=problem,
        configured=parts.console is not None,
        safe=is_reachable_safely(parts.public_url),
        public_url=parts.public_url,
    )


async def sign_in(request: Request, pages: Pages) -> Response:
    """Take a credential once, and give a cookie that holds none."""
    parts = parts_of(request)
    if request.method != "POST":
        return _to(HOME)
    if parts.console is None:
        return form(pages, parts, status=503)
    if not is_from_here(request):
        return _foreign(pages, parts)
    header = b"Bearer " + _fields(request).get(CREDENTIAL, "").strip().encode()
    if parts.authenticator.find_administrator(header):
        return form(pages, parts, status=403, problem=ADMINISTRATOR)
    # As any other caller: with the same rules, and the same cap on wrong keys.
    shown: Scope = {**request.scope, "head": {**request.scope["head"], b"authorization": header}}
    try:
        identity = await parts.admission.admit(shown)
        parts.admission.count_token(identity)  # ending a session is stored, as for a token
    except NotReadyError:
        raise
    except AuthenticationRefused as refused:
        return _refused(pages, parts, refused)
    request.scope["account_id"] = identity.account_id
    session, value = parts.console.open(identity)
    response = _to(HOME)
    set_cookie(response, parts, value, session)
    return response


async def sign_out(request: Request, pages: Pages) -> Response:
    """End the session here and everywhere: a copy of its cookie opens nothing from now on."""
    parts = parts_of(request)
    if not is_from_here(request):
        return _foreign(pages, parts)
    if cookie_name(parts) not in request.cookies:
        return _to(HOME)
    viewer = await viewer_of(request)
    assert parts.console is not None
    if not parts.console.is_form_token(viewer.session, _fields(request).get(FORM_TOKEN, "")):
        return _foreign(pages, parts)
    session = viewer.session
    command = EndToken(
        account_id=session.account_id,
        token_id=session.session_id,
        actor=f"key:{session.key_id}",
        reason="signed_out",
    )
    try:
        await ask(parts.client, command, LimitsView)
    except (ServiceUnavailableError, CommandRefusedError) as problem:
        log.warning("session_not_ended", account_id=session.account_id, problem=str(problem))
    response = _to(HOME)
    drop_cookie(response, parts)
    return response


def is_from_here(request: Request) -> bool:
    """Whether a form was sent by a page of ours: browsers say so in `Origin`, and no page can change it."""
    return request.headers.get("origin") == parts_of(request).public_url


def _foreign(pages: Pages, parts: Parts) -> Response:
    problem = f"This form was not sent from {parts.public_url}. Open the page there, and try again."
    return form(pages, parts, status=403, problem=problem)


def _refused(pages: Pages, parts: Parts, refused: AuthenticationRefused) -> Response:
    problem = str(refused)
    if isinstance(refused, UnknownKey):
        problem = UNKNOWN
    elif isinstance(refused, KeyExpired):
        problem = EXPIRED
    elif isinstance(refused, TooMany):
        wait = refused.headers["Retry-After"]
        problem = f"{sentence(problem)} Try again in {wait} s."
    response = form(pages, parts, status=refused.status, problem=sentence(problem))
    response.headers.update(refused.headers)
    return response


def sentence(text: str) -> str:
    """As refusals are worded for programs, for people."""
    ending = "" if text.endswith((".", "…")) else "."
    return text[:1].upper() + text[1:] + ending


def _fields(request: Request) -> dict[str, str]:
    """The fields of a form, each once; none of what is not a form."""
    if request.headers.get("content-type", "").partition(";")[0] != "application/x-www-form-urlencoded":
        return {}
    try:
        found = parse_qs(request.scope["body"].decode("ascii"), max_num_fields=FIELDS_MAX)
    except ValueError:
        return {}
    return {name: values[0] for name, values in found.items() if len(values) == 1}


def _to(path: str) -> Response:
    """See the page by GET: a reload sends no form again."""
    return RedirectResponse(path, 303, headers=dict(HEADERS))
