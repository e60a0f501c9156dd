"""Refusals over HTTP: go-livepeer's envelope on the wire, RFC 9457 problems elsewhere."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, Field
from pydantic_core import to_json

from contracts.limits import LimitRow

WIRE_PATHS = frozenset({"/sign-orchestrator-info", "/generate-live-payment", "/discover-orchestrators"})
FIXED_TEXTS = {500: "Internal Server Error", 503: "Service Unavailable Error"}  # as go-livepeer says
PRECONDITION_FAILED = 412
UNPROCESSABLE = 422


class WireRefusal(Exception):  # noqa: N818 (a refusal is an answer, not an error)
    """A request on the wire goes no further."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})


class FieldError(BaseModel):
    """What is wrong with one field of the request."""

    field: str = Field(description="Where it is: `body.spend_limit_wei`, `query.limit`, …")
    message: str


class Problem(BaseModel):
    """Why a request was refused (RFC 9457)."""

    type: str = "about:blank"
    title: str = Field(description="The status in words.")
    status: int
    code: str = Field(description="A stable name for programs.")
    detail: str = Field(description="For people.")
    request_id: str = Field(description="Tell us this one when you ask why.")
    errors: list[FieldError] = Field(default_factory=list)
    limits: list[LimitRow] = Field(
        default_factory=list, description="Where a limit refused: those that hold, and what is left of each."
    )


class Refused(Exception):  # noqa: N818 (a refusal is an answer, not an error)
    """A request to `/v1` goes no further."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        limits: Sequence[LimitRow] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = list(errors)
        self.limits = list(limits)
        self.headers = dict(headers or {})


def envelope(status: int, message: str, request_id: str) -> bytes:
    """The body of a refusal on the wire."""
    text = FIXED_TEXTS.get(status, message)
    return to_json({"error": {"message": f"{text} (request {request_id})"}}) + b"\n"


def problem(refused: Refused, request_id: str) -> bytes:
    """The body of a refusal elsewhere."""
    content = Problem(
        title=title(refused.status),
        status=refused.status,
        code=refused.code,
        detail=refused.detail,
        request_id=request_id,
        errors=refused.errors,
        limits=refused.limits,
    )
    return content.model_dump_json().encode() + b"\n"


def title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Refused"


def refusal_bytes(path: str, status: int, code: str, message: str, request_id: str) -> tuple[bytes, bytes]:
    """Body and media type of a refusal, in the words of the path it was asked on."""
    if path in WIRE_PATHS:
        return envelope(status, message, request_id), b"application/json"
    return problem(Refused(status, code, message), request_id), b"application/problem+json"


def invalid(errors: Sequence[Mapping[str, Any]]) -> Refused:
    """The refusal of a request whose fields are wrong, naming each."""
    fields = [
        FieldError(field=".".join(map(str, error["loc"])), message=str(error["msg"])) for error in errors
    ]
    if any(error["type"] == "json_invalid" for error in errors):
        return Refused(400, "malformed_json", "the body is not JSON", errors=fields)
    detail = "; ".join(f"{one.field}: {one.message}" for one in fields[:5])
    return Refused(UNPROCESSABLE, "invalid_request", detail, errors=fields)
