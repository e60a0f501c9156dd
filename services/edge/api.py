"""The HTTP application: routes, and how refusals and faults are answered."""

from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic_core import to_json
from starlette.exceptions import HTTPException

from services.edge import docs, wire
from services.edge.console import routes as console
from services.edge.openapi_document import complete
from services.edge.parts import Parts
from services.edge.problems import (
    PRECONDITION_FAILED,
    UNPROCESSABLE,
    WIRE_PATHS,
    Problem,
    Refused,
    WireRefusal,
    invalid,
    problem,
    title,
)
from services.edge.routes import (
    accounts,
    activity,
    audit,
    credit,
    dead_letters,
    events,
    hooks,
    limits,
    me,
    metered_streams,
    metered_usage,
    meters,
    plans,
    signed_tickets,
    stops,
    streams,
    studio_hooks,
    tokens,
    usage,
    usage_events,
    webhooks,
)
from services.edge.routes.access import unavailable
from shared.bus import CommandRefusedError, ServiceUnavailableError

ROUTES = (
    accounts,
    activity,
    studio_hooks,
    limits,
    plans,
    credit,
    streams,
    metered_streams,
    metered_usage,
    usage,
    usage_events,
    meters,
    signed_tickets,
    me,
    tokens,
    stops,
    audit,
    dead_letters,
    events,
    hooks,
    webhooks,
)
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": title(status)}
    for status in (400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 431, 503)
}


class LineResponse(JSONResponse):
    """JSON that ends with a line feed."""

    def render(self, content: Any) -> bytes:
        return to_json(content) + b"\n"


def make_app(parts: Parts | None) -> FastAPI:
    """Make the application; without parts it only describes itself."""
    app = FastAPI(
        title="Livepeer payment clearinghouse",
        version="1",
        summary="Pays Livepeer orchestrators for gateways and apps: signs, meters, limits.",
        docs_url=None,
        redoc_url=None,
        default_response_class=LineResponse,
        generate_unique_id_function=lambda route: route.name,
        responses=RESPONSES,
        redirect_slashes=False,  # it would send a client, with its key, to wherever Host points
    )
    app.state.parts = parts
    app.state.wire = wire.add_routes(app)
    for routes in ROUTES:
        app.include_router(routes.router)
    described = app.openapi
    app.openapi = lambda: complete(described())  # type: ignore[method-assign] # FastAPI's own advice
    app.add_route("/docs", lambda _: docs.page(app.openapi()), include_in_schema=False)
    console.add_routes(app)
    _add_handlers(app)
    return app


def _add_handlers(app: FastAPI) -> None:
    app.add_exception_handler(Refused, _on_refused)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(CommandRefusedError, _on_command_refused)
    app.add_exception_handler(ServiceUnavailableError, _on_unavailable)
    app.add_exception_handler(Exception, _on_fault)


async def _on_refused(request: Request, refused: Exception) -> Response:
    assert isinstance(refused, Refused)
    return _problem(request, refused)


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _problem(request, invalid(error.errors()))


async def _on_http(request: Request, error: Exception) -> Response:
    """What the routers refuse: unknown paths and wrong methods."""
    assert isinstance(error, HTTPException)
    code = title(error.status_code).lower().replace(" ", "_")
    return _answer(request, Refused(error.status_code, code, str(error.detail), headers=error.headers))


async def _on_command_refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, CommandRefusedError)
    code = error.refusal.code
    return _problem(request, Refused(_status_of(code), code, error.refusal.message))


def _status_of(code: str) -> int:
    """Services name their refusals so that the kind shows."""
    if code.endswith("_not_found"):
        return 404
    if code == "limits_changed":
        return PRECONDITION_FAILED
    return UNPROCESSABLE if code.startswith("bad_") else 409


async def _on_unavailable(request: Request, _: Exception) -> Response:
    return _problem(request, unavailable())


async def _on_fault(request: Request, _: Exception) -> Response:
    """The server logs what it was; the client learns an id to ask by."""
    return _answer(request, Refused(500, "internal_error", "Internal Server Error"))


def _answer(request: Request, refused: Refused) -> Response:
    if request.url.path in WIRE_PATHS:
        return wire.refuse(request, WireRefusal(refused.status, refused.detail, refused.headers))
    return _problem(request, refused)


def _problem(request: Request, refused: Refused) -> Response:
    body = problem(refused, request.scope["request_id"])
    return Response(body, refused.status, refused.headers, "application/problem+json")
