"""`/v1/events`: the log of all services, for billing and whoever else follows it."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import AfterValidator, BaseModel, Field
from pydantic_core import to_json

from contracts.accounts import Identity
from contracts.public_log import (
    CURSOR_CHARACTERS_MAX,
    EVENTS,
    Cursor,
    LogPlace,
    PublicEvent,
    Wanted,
    concerns_an_account,
    decode,
    encode,
)
from services.edge.event_log import WAIT_SECONDS_MAX, TooManyReaders
from services.edge.problems import UNPROCESSABLE, FieldError, Problem, Refused, title
from services.edge.routes import cursor
from services.edge.routes.access import NEEDS_KEY, AnyCaller, Caller, TheParts, require_readable
from services.edge.routes.actors import TheActor
from services.edge.routes.models import AccountId
from shared.cloud_events import BATCH_MEDIA_TYPE, batch
from shared.log_reader import EpochOverError

NOW = "now"
NEXT_HEADER, AT_END_HEADER = "Clearinghouse-Next", "Clearinghouse-At-End"
EPOCH_CHANGED_STATUS = 409


class Event(BaseModel):
    """One entry of a service's log."""

    id: str = Field(description="`<service>:<epoch>:<position>`, the same for ever; as `Nats-Msg-Id`.")
    type: str = Field(description="The contract of `data`, by its name.")
    version: int = Field(description="Of that contract.")
    account_id: str | None = Field(description="The account it concerns, where it concerns one.")
    at: datetime = Field(description="When it happened.")
    service: str
    position: int = Field(description="In the service's log; it has gaps.")
    epoch: int = Field(description="Another one begins when a service's store was restored.")
    correlation: str | None = Field(description="The payment session or stream it is a step of.")
    causation: str | None = Field(description="The `id` of what it follows from, where the log says so.")
    data: dict[str, Any] = Field(description="The event; amounts of wei are text.")


class EventPage(BaseModel):
    events: list[Event]
    next: str = Field(description="`after` of the next request; also of an empty page.")
    at_end: bool = Field(description="There was nothing more when this was read.")


class EpochProblem(Problem):
    """A log was restored: what was read of it last may not be there any more."""

    next: str = Field(description="`after` from which nothing is left out; some may be told again.")
    logs: list[LogPlace] = Field(description="The logs that began a new epoch, and where they stand.")


class CloudEvent(BaseModel):
    """A CloudEvent 1.0; a payment is a `create_signed_ticket`, as go-livepeer's signer tells it."""

    specversion: Literal["1.0"]
    id: str
    source: str
    type: str
    subject: str = Field(default="", description="Of a payment `account:user`, else the account.")
    time: datetime
    datacontenttype: Literal["application/json"]
    data: dict[str, Any]


def _known_type(name: str) -> str:
    if name not in EVENTS:
        raise ValueError("not the name of a type of events")
    return name


def _cursor(text: str) -> str:
    if text not in {"", NOW}:
        decode(text)
    return text


type After = Annotated[
    str,
    Query(
        max_length=CURSOR_CHARACTERS_MAX,
        description="`next` of the page before; none: from the beginning; `now`: from the end.",
    ),
    AfterValidator(_cursor),
]
type TypeName = Annotated[str, AfterValidator(_known_type), Field(json_schema_extra={"enum": sorted(EVENTS)})]
type Types = Annotated[
    list[TypeName], Query(max_length=len(EVENTS), description="Of these types only; none: of all.")
]
type OfAccount = Annotated[
    AccountId | None, Query(description="Of this account only; of an account's key it is its own.")
]
type Wait = Annotated[
    int, Query(ge=0, le=WAIT_SECONDS_MAX, description="Seconds to wait where there is nothing yet.")
]
type Format = Annotated[
    Literal["json", "cloudevents"], Query(alias="format", description="`cloudevents`: a CloudEvents batch.")
]

ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "model": EventPage,
        "content": {BATCH_MEDIA_TYPE: {"schema": {"type": "array", "items": CloudEvent.model_json_schema()}}},
        "headers": {
            NEXT_HEADER: {"description": "`next`, of a CloudEvents batch.", "schema": {"type": "string"}},
            AT_END_HEADER: {
                "description": "`at_end`, of a CloudEvents batch.",
                "schema": {"type": "string", "enum": ["true", "false"]},
            },
        },
    },
    EPOCH_CHANGED_STATUS: {"model": EpochProblem, "description": title(EPOCH_CHANGED_STATUS)},
}

router = APIRouter(prefix="/v1/events", tags=["Events"], dependencies=NEEDS_KEY, responses=ANSWERS)


@router.get("", response_model=EventPage)
async def read_events(  # noqa: PLR0917 (each is a query parameter, or who asks)
    request: Request,
    caller: AnyCaller,
    reader: TheActor,
    parts: TheParts,
    after: After = "",
    types: Types = [],  # noqa: B006 (read only)
    account: OfAccount = None,
    limit: cursor.Limit = 100,
    wait: Wait = 0,
    format_: Format = "json",
) -> Response:
    """Read the log from a cursor on: what every service has told, each in the order of its log.

    An account's key sees what concerns its account, an administrator all. Types that nobody asked for
    are read over, some thousand a request: an empty page with `at_end` false is to be gone on from.
    """
    wanted = _wanted(caller, types, account)
    start = await parts.events.ends() if after == NOW else decode(after) if after else {}
    try:
        found = await parts.events.read(
            reader, start, wanted, limit, wait_seconds=wait, is_gone=request.is_disconnected
        )
    except TooManyReaders:
        detail = "too many requests read the log at once"
        raise Refused(429, "too_many_readers", detail, headers={"Retry-After": "1"}) from None
    except EpochOverError as over:
        return _epoch_over(over, request.scope["request_id"])
    return _page(found.events, found.cursor, at_end=found.at_end, as_batch=format_ == "cloudevents")


def _wanted(caller: Caller, types: list[str], account: str | None) -> Wanted:
    if isinstance(caller, Identity):
        account = account or caller.account_id
        require_readable(account, caller)
    foreign = [name for name in types if account is not None and not concerns_an_account(name)]
    if foreign:
        error = FieldError(field="query.types", message=f"{foreign[0]} concerns no account")
        raise Refused(UNPROCESSABLE, "invalid_request", f"query.types: {error.message}", errors=[error])
    return Wanted(frozenset(types) or None, account)


def _page(events: Any, place: Cursor, *, at_end: bool, as_batch: bool) -> Response:
    told: list[PublicEvent] = list(events)
    if as_batch:
        headers = {NEXT_HEADER: encode(place), AT_END_HEADER: "true" if at_end else "false"}
        return Response(to_json(batch(told)) + b"\n", 200, headers, BATCH_MEDIA_TYPE)
    page = {"events": told, "next": encode(place), "at_end": at_end}
    return Response(to_json(page) + b"\n", 200, media_type="application/json")


def _epoch_over(over: EpochOverError, request_id: str) -> Response:
    problem = EpochProblem(
        title=title(EPOCH_CHANGED_STATUS),
        status=EPOCH_CHANGED_STATUS,
        code="log_epoch_changed",
        detail=str(over),
        request_id=request_id,
        next=encode(over.cursor),
        logs=over.logs,
    )
    body = problem.model_dump_json().encode() + b"\n"
    return Response(body, EPOCH_CHANGED_STATUS, media_type="application/problem+json")
