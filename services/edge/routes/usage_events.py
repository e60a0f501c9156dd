"""`/v1/usage/events`: operators push usage of their own, as CloudEvents."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from contracts.accounts import AccountView, GetAccount, Identity
from contracts.cloud_events import BadEvent, identity_of, read_event
from contracts.usage_events import EVENTS_MAX, EventOutcome, EventRefusal, UsageEvent
from services.edge.auth import Administrator
from services.edge.cloud_events import BATCH, BINARY, STRUCTURED, UnreadableRequest, read_request
from services.edge.parts import Parts
from services.edge.problems import UNPROCESSABLE, FieldError, Problem, Refused
from services.edge.routes.access import NEEDS_KEY, AnyCaller, Caller, TheParts
from services.edge.routes.models import AccountId
from shared.bus import ask

PAGE = 50  # events that are read before others have their turn
STATUSES = {"recorded": 202, "repeated": 200}
REFUSED_STATUSES = {"corrects_not_found": 404, "subject_not_allowed": 403}

router = APIRouter(prefix="/v1/usage/events", tags=["Usage"], dependencies=NEEDS_KEY)

type RefusalCode = EventRefusal | Literal["subject_not_allowed"]
type OfAccount = Annotated[
    AccountId | None, Query(alias="account", description="Whose usage it is; an administrator says.")
]


class PushedEvent(BaseModel):
    """What became of an event."""

    id: str | None = Field(description="Null where none could be read.")
    source: str | None
    status: Literal["recorded", "repeated", "refused"] = Field(
        description="`repeated`: an event of this source and id was recorded before."
    )
    code: RefusalCode | None = Field(default=None, description="Why it was refused.")
    field: str | None = Field(default=None, description="What is wrong: `time`, `data.tokens`, …")
    detail: str | None = None


class PushedEvents(BaseModel):
    """What became of each event of a batch, in its order."""

    events: list[PushedEvent]


EVENT: dict[str, Any] = {
    "type": "object",
    "required": ["specversion", "id", "source", "type"],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": {"type": "string", "minLength": 1, "maxLength": 128},
        "source": {"type": "string", "minLength": 1, "maxLength": 256},
        "type": {"type": "string", "minLength": 1, "maxLength": 128},
        "subject": {"type": ["string", "null"], "description": "The account's user."},
        "time": {"type": ["string", "null"], "format": "date-time"},
        "data": {"type": ["object", "null"], "maxProperties": 20},
        "corrects": {"type": ["string", "null"], "description": "The id of the record it corrects."},
    },
    "example": {
        "specversion": "1.0",
        "id": "job-7",
        "source": "my-app",
        "type": "tokens.used",
        "subject": "user-7",
        "data": {"tokens": 1200, "model": "small"},
    },
}
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            STRUCTURED: {"schema": EVENT},
            BATCH: {"schema": {"type": "array", "maxItems": EVENTS_MAX}},
            BINARY: {
                "schema": {
                    "type": "object",
                    "description": "Data of an event whose attributes are headers: ce-id, ce-source, …",
                }
            },
        },
    }
}
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"model": PushedEvent, "description": "One event that was recorded before."},
    202: {"model": PushedEvent | PushedEvents, "description": "One event was recorded, or a batch was read."},
    415: {"model": Problem, "description": "Neither an event nor a batch"},
}


@router.post("", status_code=202, response_model=None, responses=ANSWERS, openapi_extra=BODY)
async def push_usage(
    request: Request, caller: AnyCaller, parts: TheParts, account: OfAccount = None
) -> Response:
    """Record usage that is metered elsewhere, as CloudEvents 1.0: one, or up to 500 in a batch of 1 MiB.

    Each event is recorded once, by account, source and id, however often it comes. A batch is
    answered with 202 once all that can be recorded is durable: look at `status` of each event.
    With a key or token of a user it is this user's usage only.
    """
    user_id = caller.user_id if isinstance(caller, Identity) else None
    account_id = await _account_of(parts, caller, account)
    body = request.scope["body"]
    try:
        pushed = read_request(request.scope["head"], body)
        answers = await _push(parts, pushed.events, account_id, user_id, size=len(body))
    except UnreadableRequest as unreadable:
        raise Refused(unreadable.status, unreadable.code, str(unreadable)) from unreadable
    except BadEvent as bad:
        raise _problem(bad.code, bad.field, bad.detail) from bad
    if pushed.kind == "many":
        return _json(202, PushedEvents(events=answers))
    [answer] = answers
    if answer.status == "refused":
        raise _problem(str(answer.code), answer.field or "", answer.detail or "")
    return _json(STATUSES[answer.status], answer)


def _json(status: int, answer: BaseModel) -> Response:
    """Make the answer as it is: FastAPI would check each of 500 events again."""
    return Response(answer.model_dump_json() + "\n", status, media_type="application/json")


async def _push(
    parts: Parts, given: Sequence[object], account_id: str, user_id: str | None, *, size: int
) -> list[PushedEvent]:
    read: list[UsageEvent | BadEvent] = []
    for number, each in enumerate(given):
        read.append(_read(each, account_id, user_id))
        if number % PAGE == PAGE - 1:
            await asyncio.sleep(0)
    events = [each for each in read if isinstance(each, UsageEvent)]
    outcomes = iter(await parts.usage_events.record(events, size) if events else [])
    return [
        _refused(one, each) if isinstance(each, BadEvent) else _answer(each, next(outcomes))
        for one, each in zip(given, read, strict=True)
    ]


def _read(given: object, account_id: str, user_id: str | None) -> UsageEvent | BadEvent:
    try:
        return read_event(given, account_id, user_id=user_id)
    except BadEvent as bad:
        return bad


def _refused(given: object, bad: BadEvent) -> PushedEvent:
    event_id, source = identity_of(given)
    return PushedEvent(
        id=event_id,
        source=source,
        status="refused",
        code=bad.code,
        field=bad.field or None,
        detail=bad.detail,
    )


def _answer(event: UsageEvent, outcome: EventOutcome) -> PushedEvent:
    return PushedEvent(
        id=event.event_id,
        source=event.source,
        status=outcome.status,
        code=outcome.code,
        field=outcome.field,
        detail=outcome.detail,
    )


def _problem(code: str, field: str, detail: str) -> Refused:
    errors = [FieldError(field=field, message=detail)] if field else []
    status = REFUSED_STATUSES.get(code, UNPROCESSABLE)
    return Refused(status, code, f"{field}: {detail}" if field else detail, errors=errors)


async def _account_of(parts: Parts, caller: Caller, account_id: str | None) -> str:
    """Whose usage it is; a foreign account answers like a missing one."""
    if isinstance(caller, Administrator):
        if account_id is None:
            error = FieldError(field="query.account", message="an administrator has to say whose")
            raise Refused(UNPROCESSABLE, "invalid_request", "query.account is missing", errors=[error])
        return (await ask(parts.client, GetAccount(account_id=account_id), AccountView)).account_id
    if account_id not in {None, caller.account_id}:
        raise Refused(404, "account_not_found", f"there is no account {account_id}")
    return caller.account_id
