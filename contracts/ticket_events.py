"""What go-livepeer writes to Kafka of each payment that it signs, read strictly.

The message's value is one JSON object; of its types only `create_signed_ticket` tells usage
(`server/remote_signer.go` and `monitor/kafka.go` there).
"""

import json
import re
from datetime import datetime, timedelta
from decimal import Decimal
from math import ceil
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from contracts.signed_tickets import INTEGER_END, SignedTicket

SIGNED_TICKET = "create_signed_ticket"
JOB_TYPES: dict[str, Literal["live", "lv2v", "fixed", ""]] = {
    "live-video-to-video": "lv2v",
    "live": "live",
    "fixed": "fixed",
    "": "",
}
FIRST_MS = 1_514_764_800_000  # 2018: before it there was no network, and seconds are no milliseconds
AHEAD = timedelta(minutes=1)  # clocks differ
SECONDS_MAX = 10**9
ACCOUNT_ID = re.compile(r"[a-z0-9-]{3,64}")
USER_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
KEY_PREFIX = "lpch_"  # of API keys: one that somebody took for an id is not kept
TOLD_BACK_MAX = 128

type TicketRefusal = Literal["bad_event", "auth_id_missing", "account_not_found"]
type Printable = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=256)]
type WholeText = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,77}$")]
type SignedText = Annotated[str, StringConstraints(pattern=r"^-?[0-9]{1,100}$")]
type PriceText = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,77}(\.[0-9]{1,10})?$")]
type Address = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-fA-F]{40}$")]
type StateId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{1,128}$")]
type Milliseconds = Annotated[int, Field(ge=FIRST_MS)]


def _number(given: object) -> object:
    """A whole number is as good as one with places; true is none."""
    if isinstance(given, bool) or not isinstance(given, int | Decimal):
        raise ValueError("a number is expected")  # noqa: TRY004 (as pydantic wants it)
    return Decimal(given)


class BadEvent(Exception):  # noqa: N818 (a refusal is an answer, not an error)
    """An event that is not recorded, and which of its fields is to blame."""

    def __init__(self, field: str, detail: str, code: TicketRefusal = "bad_event") -> None:
        super().__init__(f"{field}: {detail}" if field else detail)
        self.field = field
        self.detail = detail
        self.code: TicketRefusal = code


class _Told(BaseModel):
    """What later releases add is left out."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", hide_input_in_errors=True)


class TicketData(_Told):
    """`data` of the event, as Go's map has it. Older releases tell no app."""

    app: Printable = ""
    auth_id: Printable
    billable_secs: Annotated[
        Decimal, BeforeValidator(_number), Field(gt=-SECONDS_MAX, lt=SECONDS_MAX, allow_inf_nan=False)
    ]
    computed_fee: WholeText
    cost: PriceText
    current_time: Printable
    current_time_unix: Milliseconds
    manifest_id: Printable
    num_tickets: Annotated[int, Field(ge=0, lt=2**31)]
    orch_address: Address
    orch_url: Annotated[str, StringConstraints(max_length=2048)]
    pipeline: Literal["live-video-to-video", "live", "fixed", ""]
    pixels: Annotated[int, Field(ge=0, lt=INTEGER_END)]
    pm_session_id: Printable
    previous_time: Printable
    previous_time_unix: Milliseconds
    request_id: Printable
    sequence_number: Annotated[int, Field(ge=0, lt=2**64)]
    session_balance: SignedText
    session_id: StateId
    session_status: Literal["new", "continuing"]


class TicketEvent(_Told):
    """The value of the message."""

    id: Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")]
    timestamp: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,15}$")]
    gateway: Printable
    data: TicketData


def read_json(text: str | bytes) -> object:
    """Return what a JSON text says; numbers with places are Decimals. Raise BadEvent."""
    try:
        return json.loads(text, parse_float=Decimal, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise BadEvent("", "not JSON") from None


def read_event(given: object, now: datetime, *, account_id: str | None = None) -> SignedTicket | None:
    """The signed ticket of an event; None of those of other types, which tell no usage.

    `account_id`: whose events they have to be, and are if they do not say. Raises BadEvent.
    """
    if not isinstance(given, dict):
        raise BadEvent("", "a JSON object is expected")
    if not isinstance(given.get("type"), str):
        raise BadEvent("type", "a text is expected")
    if given["type"] != SIGNED_TICKET:
        return None
    try:
        event = TicketEvent.model_validate(given)
    except ValidationError as problem:
        raise _bad(problem) from None
    latest = (now + AHEAD).timestamp() * 1000
    if event.data.current_time_unix > latest:
        raise BadEvent("data.current_time_unix", "lies in the future")
    return _ticket(event, *_whose(event.data.auth_id, account_id))


def id_of(given: object) -> str | None:
    """The id of whatever came, as far as it can be told back."""
    found = given.get("id") if isinstance(given, dict) else None
    if not isinstance(found, str) or len(found) > TOLD_BACK_MAX or not found.isprintable():
        return None
    return found


def _whose(auth_id: str, account_id: str | None) -> tuple[str, str | None]:
    """`account:user`, up to the first colon the account."""
    if not auth_id:
        if account_id is None:
            raise BadEvent("data.auth_id", "nobody says whose it is", "auth_id_missing")
        return account_id, None
    told, _, user_id = auth_id.partition(":")
    if not ACCOUNT_ID.fullmatch(told):
        raise BadEvent("data.auth_id", "an account's id is expected before the first colon")
    if user_id and (not USER_ID.fullmatch(user_id) or user_id.startswith(KEY_PREFIX)):
        raise BadEvent("data.auth_id", "at most 128 characters of A-Z a-z 0-9 . _ : - tell the user")
    if account_id not in {None, told}:
        raise not_found()
    return told, user_id or None


def not_found() -> BadEvent:
    """The account is not there, or another one than the key's: both sound alike."""
    return BadEvent("data.auth_id", "there is no such account", "account_not_found")


def _ticket(event: TicketEvent, account_id: str, user_id: str | None) -> SignedTicket:
    data = event.data
    return SignedTicket(
        account_id=account_id,
        user_id=user_id,
        event_id=event.id.lower(),
        gateway=event.gateway,
        state_id=data.session_id,
        sequence=data.sequence_number,
        signed_at_ms=data.current_time_unix,
        orchestrator=data.orch_address.lower(),
        job_type=JOB_TYPES[data.pipeline],
        app=data.app,
        tickets=data.num_tickets,
        fee=int(data.computed_fee),
        pixels=data.pixels,
        billable_seconds=max(0, ceil(data.billable_secs)),
    )


def _bad(problem: ValidationError) -> BadEvent:
    first = problem.errors(include_input=False, include_url=False, include_context=False)[0]
    return BadEvent(".".join(map(str, first["loc"])), first["msg"])


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)
