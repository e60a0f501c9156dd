"""The request for a session token: RFC 8693's parameters, as a form or as JSON, with ours."""

from typing import Annotated, Any, Final, Literal
from urllib.parse import parse_qsl

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_core import from_json

from contracts.limits import LIST_MAX, Apps, JobType, LimitMicroUsd, Network, PricedAs, PriceText, Words
from services.edge.addresses import read_address
from services.edge.problems import Refused, invalid
from services.edge.routes.models import Body, OpaqueId, WeiIn

JWT_TYPE: Final = "urn:ietf:params:oauth:token-type:jwt"
FORM, JSON = "application/x-www-form-urlencoded", "application/json"
PARAMETERS_MAX = 32
EXPIRES_IN_MIN, EXPIRES_IN_MAX, EXPIRES_IN = 60, 86_400, 3_600
# RFC 6749 §5.2 and RFC 8693 §2.2.2 have codes of their own for these parameters.
CODES = {
    "grant_type": "unsupported_grant_type",
    "scope": "invalid_scope",
    "resource": "invalid_target",
    "audience": "invalid_target",
}

type RecipientIn = Annotated[str, AfterValidator(read_address)]


class TokenLimits(Body):
    """What may be set for a session token, as for an account; all of them hold beside its key's."""

    spend_limit_wei: WeiIn | None = None
    spend_per_hour_wei: WeiIn | None = None
    spend_per_day_wei: WeiIn | None = None
    spend_per_month_wei: WeiIn | None = None
    spend_limit_micro_usd: LimitMicroUsd | None = None
    spend_per_hour_micro_usd: LimitMicroUsd | None = None
    spend_per_day_micro_usd: LimitMicroUsd | None = None
    spend_per_month_micro_usd: LimitMicroUsd | None = None
    sessions_max: int | None = Field(default=None, ge=0, le=1_000_000)
    streams_max: int | None = Field(default=None, ge=0, le=1_000_000)
    payments_per_second: int | None = Field(default=None, ge=1, le=100_000)
    ticket_ev_max_wei: WeiIn | None = None
    prices_max: Annotated[dict[PricedAs, PriceText], Field(max_length=LIST_MAX)] | None = None
    job_types: list[JobType] | None = Field(default=None, max_length=4)
    apps: Apps | None = None
    capabilities: Words | None = None
    recipients: Annotated[list[RecipientIn], Field(max_length=LIST_MAX)] | None = None
    networks: Annotated[list[Network], Field(max_length=LIST_MAX)] | None = Field(
        default=None, description="CIDR; requests from elsewhere are refused."
    )


def _limits(value: Any) -> Any:
    """A form has them as JSON in its text."""
    return from_json(value) if isinstance(value, str) else value


class TokenRequest(Body):
    grant_type: Literal["urn:ietf:params:oauth:grant-type:token-exchange"]
    requested_token_type: Literal["urn:ietf:params:oauth:token-type:jwt"] = JWT_TYPE
    subject_token: SecretStr | None = Field(
        default=None, description="An API key of the account; the one that asks if it is absent."
    )
    subject_token_type: Literal["urn:ietf:params:oauth:token-type:access_token"] | None = None
    user_id: OpaqueId | None = Field(
        default=None, description="Whose token it is; needed unless the key is a user's own."
    )
    expires_in: int = Field(default=EXPIRES_IN, ge=EXPIRES_IN_MIN, le=EXPIRES_IN_MAX, description="Seconds.")
    limits: Annotated[TokenLimits, BeforeValidator(_limits)] = Field(
        default_factory=TokenLimits, description="An object; its JSON as text in a form."
    )


REFERENCE = "#/components/schemas/{model}"
# How the request is described: FastAPI knows one form of a body only.
DESCRIBED: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {"schema": {"$ref": REFERENCE.format(model="TokenRequest")}},
            FORM: {"schema": {"$ref": REFERENCE.format(model="TokenForm")}},
        },
    }
}


def schemas() -> dict[str, Any]:
    """Return what `DESCRIBED` refers to, by name."""
    request = TokenRequest.model_json_schema(ref_template=REFERENCE)
    parts = request.pop("$defs")
    limits = {
        "type": "string",
        "contentMediaType": JSON,
        "contentSchema": {"$ref": REFERENCE.format(model="TokenLimits")},
        "description": "An object, as JSON.",
    }
    properties = {**request["properties"], "limits": limits}
    return {**parts, "TokenRequest": request, "TokenForm": {**request, "properties": properties}}


def read_request(content_type: str, body: bytes) -> TokenRequest:
    """Read a request; raise Refused, with the codes of RFC 6749 and RFC 8693."""
    media_type = content_type.partition(";")[0].strip().lower()
    try:
        if media_type == FORM:
            parameters = _read_form(body)
        elif media_type == JSON:
            parameters = from_json(body)
        else:
            raise ValueError(f"Content-Type is {FORM} or {JSON}")
    except ValueError as problem:
        raise bad_request("invalid_request", str(problem)) from problem
    try:
        return TokenRequest.model_validate(parameters)
    except ValidationError as problem:
        raise _refusal_of(problem) from problem


def bad_request(code: str, message: str) -> Refused:
    return Refused(400, code, message)


def _read_form(body: bytes) -> dict[str, str]:
    """Raise ValueError. RFC 6749 §3.2: none twice, and those without a value count as absent."""
    pairs = parse_qsl(
        body.decode("ascii"), strict_parsing=bool(body), errors="strict", max_num_fields=PARAMETERS_MAX
    )
    parameters = dict(pairs)
    if len(parameters) < len(pairs):
        raise ValueError("a parameter is there twice")
    return parameters


def _refusal_of(problem: ValidationError) -> Refused:
    errors = problem.errors(include_input=False, include_url=False)
    described = invalid([{**error, "loc": ("body", *error["loc"])} for error in errors])
    code = CODES.get(str((*errors[0]["loc"], "")[0]), "invalid_request")
    return Refused(400, code, described.detail, errors=described.errors)
