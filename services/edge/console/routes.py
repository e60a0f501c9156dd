"""The console over HTTP: `/usage` and what is below it, and files that pages load."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from services.edge.auth import AuthenticationRefused, KeyExpired, KeyRefused, NotReadyError, TooMany
from services.edge.console import signing, words
from services.edge.console.assets import PREFIX, Assets
from services.edge.console.figures import Figures, NotFound, ran_ms
from services.edge.console.pages import HEADERS, Pages
from services.edge.console.visitors import SignInNeeded, Viewer, drop_cookie, viewer_of
from services.edge.parts import parts_of
from shared.bus import CommandRefusedError, ServiceUnavailableError

FOR_EVER = "public, max-age=31536000, immutable"
ENDED = "Your session has ended, or the key it was opened with has expired. Sign in again."
REVOKED = "The key that was signed in with is not valid any more. Sign in with another one."

AWAY = (
    "A service of ours does not answer. Payments are another matter and go on; nothing of your usage is lost."
)
FAST = "Pages of this key are asked for faster than we answer them."
MISSING = "It may have been another account's or user's, or the address is not whole."

NOT_FOUND = 404
AGAIN_SECONDS = "5"

type Answer = Callable[[Request, Pages], Awaitable[Response]]


def add_routes(app: FastAPI) -> None:
    assets = Assets()
    pages = Pages(assets)
    for path, methods, answer in (
        ("/usage", ["GET"], usage),
        ("/usage/now", ["GET"], now),
        ("/usage/streams/{stream_id}", ["GET"], stream),
        ("/usage/sessions/{session_id}", ["GET"], session),
        ("/sign-in", ["GET", "POST"], signing.sign_in),
        ("/sign-out", ["POST"], signing.sign_out),
    ):
        app.add_route(path, partial(_answered, pages, answer), methods, include_in_schema=False)
    app.add_route(f"{PREFIX}{{name}}", partial(_asset, assets), ["GET"], include_in_schema=False)


async def usage(request: Request, pages: Pages) -> Response:
    """What the viewer spent: now, today, this month; on what; and what may still be spent."""
    viewer = await viewer_of(request)
    found = await Figures(parts_of(request), viewer).usage()
    of_user = viewer.holder.user_id is not None
    lines = [
        *words.limit_lines(found.limits, "this user" if of_user else "the account"),
        *words.limit_lines(found.key_limits, "this key"),
    ]
    return pages.answer(
        "usage.html",
        **_shell(request, viewer),
        usage=found,
        now=found.now,
        limits=lines,
        zone=found.calendar.zone,
        rate=found.limits.micro_usd_per_eth,
    )


async def now(request: Request, pages: Pages) -> Response:
    """The part of the page that is asked for again and again."""
    viewer = await viewer_of(request)
    figures = Figures(parts_of(request), viewer)
    limits = await figures.limits()
    zone, rate = ZoneInfo(limits.time_zone), limits.micro_usd_per_eth
    return pages.answer("now.html", now=await figures.now(), zone=zone, rate=rate)


async def stream(request: Request, pages: Pages) -> Response:
    """One stream: its runs, what it cost, and why each of its payment sessions stopped."""
    viewer = await viewer_of(request)
    figures = Figures(parts_of(request), viewer)
    view, sessions = await figures.stream(request.path_params["stream_id"])
    limits, at = await figures.limits(), parts_of(request).clock.now()
    return pages.answer(
        "stream.html",
        **_shell(request, viewer),
        view=view,
        stream=view.stream,
        at=at,
        ran_ms=ran_ms(view, at),
        sessions=sessions,
        zone=ZoneInfo(limits.time_zone),
        rate=limits.micro_usd_per_eth,
    )


async def session(request: Request, pages: Pages) -> Response:
    """One payment session with all that happened to it."""
    viewer = await viewer_of(request)
    figures = Figures(parts_of(request), viewer)
    view = await figures.session(request.path_params["session_id"])
    limits = await figures.limits()
    return pages.answer(
        "session.html",
        **_shell(request, viewer),
        session=view,
        zone=ZoneInfo(limits.time_zone),
        rate=limits.micro_usd_per_eth,
    )


def _shell(request: Request, viewer: Viewer) -> dict[str, Any]:
    """What the frame around each page shows."""
    return {"viewer": viewer, "public_url": parts_of(request).public_url}


async def _answered(pages: Pages, answer: Answer, request: Request) -> Response:
    """Answer, or say in a page why not and what to do."""
    try:
        return await answer(request, pages)
    except SignInNeeded:
        status = 200 if request.url.path == signing.HOME else 401
        return signing.form(pages, parts_of(request), status=status)
    except (NotReadyError, ServiceUnavailableError, CommandRefusedError):
        return _refused(request, pages, 503, "We cannot answer now", AWAY)
    except TooMany:
        return _refused(request, pages, 429, "Too many pages at once", FAST)
    except AuthenticationRefused as refused:
        return _kept_out(request, pages, refused)
    except NotFound:
        return _refused(request, pages, 404, "There is no such page", MISSING)


def _kept_out(request: Request, pages: Pages, refused: AuthenticationRefused) -> Response:
    """The form with what became of the key; of a suspended account the cookie stays, it may be resumed."""
    parts, problem = parts_of(request), str(refused)
    if isinstance(refused, KeyRefused):
        problem = ENDED if isinstance(refused, KeyExpired) else REVOKED
    response = signing.form(pages, parts, status=refused.status, problem=signing.sentence(problem))
    if isinstance(refused, KeyRefused):
        drop_cookie(response, parts)
    response.headers.update(refused.headers)
    return response


def _refused(request: Request, pages: Pages, status: int, title: str, why: str) -> Response:
    """A page that says why not; it tries again by itself where that may help."""
    again = status != NOT_FOUND
    request_id = request.scope["request_id"]
    response = pages.answer(
        "refused.html",
        status,
        title=title,
        why=why,
        again=again and request.method == "GET",
        request_id=request_id,
    )
    if again:
        response.headers["Retry-After"] = AGAIN_SECONDS
    return response


async def _asset(assets: Assets, request: Request) -> Response:
    found = assets.find(request.url.path)
    if found is None:
        return Response("not found\n", 404, media_type="text/plain", headers=dict(HEADERS))
    headers = {**HEADERS, "Cache-Control": FOR_EVER}
    return Response(found.content, media_type=found.media_type, headers=headers)
