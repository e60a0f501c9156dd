"""`/v1/usage/tickets`: what an installation of go-livepeer has signed itself, as its events tell it."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field

from contracts.signed_tickets import TICKETS_MAX, SignedTicket
from contracts.ticket_events import BadEvent, TicketRefusal, id_of, not_found, read_event, read_json
from services.edge.auth import Administrator
from services.edge.parts import Parts
from services.edge.problems import UNPROCESSABLE, Problem, Refused
from services.edge.recording_lines import TicketOutcome
from services.edge.routes.access import NEEDS_KEY, TheParts, caller_of
from services.edge.routes.hooks import SECRETS_OF_PAYMENT_HOOK, shows_hook_secret

LINES, ARRAY = "application/x-ndjson", "application/json"
PAGE = 50  # events that are read before others have their turn

router = APIRouter(
    prefix="/v1/usage/tickets", tags=["Usage"], dependencies=[*NEEDS_KEY, *SECRETS_OF_PAYMENT_HOOK]
)


class ToldTicket(BaseModel):
    """What became of an event."""

    line: int = Field(description="Its line, or its place in the array; the first is 1.")
    id: str | None = Field(description="Null where none could be read.")
    status: Literal["recorded", "repeated", "ignored", "refused"] = Field(
        description="`repeated`: it was recorded before. `ignored`: events of its type tell no usage."
    )
    code: TicketRefusal | None = Field(default=None, description="Why it was refused.")
    field: str | None = Field(default=None, description="What is wrong: `data.computed_fee`, …")
    detail: str | None = None


class ToldTickets(BaseModel):
    """What became of each event, in their order."""

    events: list[ToldTicket]


BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            LINES: {"schema": {"description": "An event on each line, as Kafka has it."}},
            ARRAY: {"schema": {"type": "array", "maxItems": TICKETS_MAX, "items": {}}},
        },
    }
}
ANSWERS: dict[int | str, dict[str, Any]] = {
    415: {"model": Problem, "description": "Neither JSON lines nor a JSON array"}
}


async def account_told(request: Request, parts: TheParts) -> str | None:
    """The account whose events the caller may tell; None: anybody's."""
    if shows_hook_secret(request, parts):
        return None
    caller = await caller_of(request)
    if isinstance(caller, Administrator):
        return None
    if caller.user_id is not None:
        raise Refused(403, "account_key_needed", "a user's key may not tell what the account has signed")
    return caller.account_id


@dataclass(slots=True)
class _Line:
    number: int
    given: object = None
    read: SignedTicket | BadEvent | None = None  # None: it tells no usage


@router.post("", responses=ANSWERS, openapi_extra=BODY)
async def tell_signed_tickets(
    request: Request, parts: TheParts, account_id: Annotated[str | None, Depends(account_told)]
) -> ToldTickets:
    """Record events `create_signed_ticket` of a go-livepeer that signs itself: at most 500, of 1 MiB.

    Whose each is says its `auth_id`, as `/authorize` answered it: `account:user`. Each is recorded
    once, by account, id and gateway, however often it comes. Answered once all that can be recorded is
    durable; look at `status` of each. With a key of an account, events of others are refused.
    """
    lines = _lines(request.scope["head"].get(b"content-type", b""), request.scope["body"])
    await _read(parts, lines, account_id)
    await _refuse_strangers(parts, lines, account_id)
    tickets = [line.read for line in lines if isinstance(line.read, SignedTicket)]
    outcomes = iter(await parts.tickets.record(tickets, len(request.scope["body"])) if tickets else [])
    return ToldTickets(events=[_answer(line, outcomes) for line in lines])


def _lines(content_type: bytes, body: bytes) -> list[_Line]:
    form = content_type.split(b";")[0].strip().lower().decode("latin-1")
    if form == ARRAY:
        return [_Line(number, given) for number, given in enumerate(_array(body), 1)]
    if form == LINES:
        told = [(number, text) for number, text in enumerate(body.split(b"\n"), 1) if text.strip()]
        _bound(told)
        return [_line(number, text) for number, text in told]
    raise Refused(415, "unsupported_media_type", f"events come as {LINES} or {ARRAY}")


def _array(body: bytes) -> list[object]:
    try:
        given = read_json(body)
    except BadEvent as bad:
        raise Refused(400, "malformed_json", "the body is not JSON") from bad
    if not isinstance(given, list):
        raise Refused(UNPROCESSABLE, "invalid_request", "body: an array of events is expected")
    _bound(given)
    return given


def _bound(events: Sequence[object]) -> None:
    if len(events) > TICKETS_MAX:
        raise Refused(413, "too_many_events", f"at most {TICKETS_MAX} events at once")


def _line(number: int, text: bytes) -> _Line:
    try:
        return _Line(number, read_json(text))
    except BadEvent as bad:
        return _Line(number, read=bad)


async def _read(parts: Parts, lines: Sequence[_Line], account_id: str | None) -> None:
    now = parts.clock.now()
    for place, line in enumerate(lines, 1):
        if line.read is None:
            try:
                line.read = read_event(line.given, now, account_id=account_id)
            except BadEvent as bad:
                line.read = bad
        if place % PAGE == 0:
            await asyncio.sleep(0)


async def _refuse_strangers(parts: Parts, lines: Sequence[_Line], account_id: str | None) -> None:
    if account_id is not None:
        return  # it is its own
    named = {line.read.account_id for line in lines if isinstance(line.read, SignedTicket)}
    missing = await parts.known_accounts.missing(named)
    for line in lines:
        if isinstance(line.read, SignedTicket) and line.read.account_id in missing:
            line.read = not_found()


def _answer(line: _Line, outcomes: Iterator[TicketOutcome]) -> ToldTicket:
    match line.read:
        case SignedTicket():
            return ToldTicket(line=line.number, id=line.read.event_id, status=next(outcomes))
        case BadEvent() as bad:
            return ToldTicket(
                line=line.number,
                id=id_of(line.given),
                status="refused",
                code=bad.code,
                field=bad.field or None,
                detail=bad.detail,
            )
    return ToldTicket(line=line.number, id=id_of(line.given), status="ignored")
