"""Reads CloudEvents 1.0 as usage: which attributes count, and what their data may be.

Numbers stay as exact as they were told, so JSON is read with `read_json` here and nowhere as floats.
"""

import json
import re
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StringConstraints,
    ValidationError,
)

from contracts.api_keys import PREFIX
from contracts.usage_events import PROPERTIES_MAX, EventId, EventType, Source, UsageEvent

TEXT_BYTES_MAX = 256
DIGITS_BEFORE, PLACES = 15, 9
INTEGER_MAX = 10**DIGITS_BEFORE
EXACT = Context(prec=DIGITS_BEFORE + PLACES, traps=[Inexact, InvalidOperation])
BILLIONTH = Decimal("1e-9")
PROPERTY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class BadEvent(ValueError):  # noqa: N818 (a refusal is an answer, not an error)
    """No usage can be read from this event: which field is wrong, and what is wrong with it."""

    def __init__(
        self, field: str, detail: str, code: Literal["bad_event", "subject_not_allowed"] = "bad_event"
    ) -> None:
        super().__init__(f"{field}: {detail}" if field else detail)
        self.field = field
        self.detail = detail
        self.code: Literal["bad_event", "subject_not_allowed"] = code


class BadJson(ValueError):  # noqa: N818 (a refusal is an answer, not an error)
    """What should be JSON is not."""


def _a_moment(given: object) -> object:
    if given is None or (isinstance(given, str) and RFC_3339.fullmatch(given)):
        return given
    raise ValueError("a time is expected, such as 2026-03-01T12:00:00Z")


def _no_key(text: str) -> str:
    """Refuse an API key that somebody mistook for an id: ids are kept, and logged."""
    if text.startswith(f"{PREFIX}_"):
        raise ValueError("an API key is no id")
    return text


type UserId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{1,128}$"), AfterValidator(_no_key)]


class Envelope(BaseModel):
    """The attributes that count, and where data can be; others are ignored."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    specversion: Literal["1.0"]
    id: Annotated[EventId, AfterValidator(_no_key)]
    source: Source
    type: EventType
    subject: UserId | None = None
    time: Annotated[AwareDatetime | None, BeforeValidator(_a_moment)] = None
    corrects: EventId | None = None
    data: Any = None
    data_base64: Any = None


def read_json(body: bytes | str) -> Any:
    """Read JSON with its numbers as they are: int or Decimal. Raise BadJson."""
    try:
        return json.loads(body, parse_float=Decimal, parse_constant=_refuse_constant)
    except (ValueError, ArithmeticError, RecursionError):
        raise BadJson("not JSON") from None


def read_event(given: object, account_id: str, *, user_id: str | None) -> UsageEvent:
    """Read one event, of `read_json`, for an account. Raise BadEvent.

    With a `user_id` it came with this user's key: it is booked to no other.
    """
    if not isinstance(given, dict):
        raise BadEvent("", "an event is a JSON object")
    try:
        envelope = Envelope.model_validate(given)
    except ValidationError as problem:
        first = problem.errors(include_url=False, include_input=False, include_context=False)[0]
        raise BadEvent(str(first["loc"][0]), first["msg"].removeprefix("Value error, ")) from None
    if user_id is not None and envelope.subject not in {None, user_id}:
        raise BadEvent("subject", "a user's key books to this user only", "subject_not_allowed")
    if envelope.data_base64 is not None:
        raise BadEvent("data_base64", "data has to be JSON")
    numbers, texts = read_data(envelope.data)
    # Each field was checked above, and 500 of them are one request.
    return UsageEvent.model_construct(
        account_id=account_id,
        source=envelope.source,
        event_id=envelope.id,
        type=envelope.type,
        user_id=user_id or envelope.subject,
        own_only=user_id is not None,
        at=envelope.time,
        numbers=numbers,
        texts=texts,
        corrects=envelope.corrects,
        voids=envelope.corrects is not None and envelope.data is None,
    )


def read_data(data: object) -> tuple[dict[str, str], dict[str, str | bool]]:
    """Return the numbers and the texts of a flat object. Raise BadEvent."""
    if data is None:
        return {}, {}
    if not isinstance(data, dict):
        raise BadEvent("data", "a flat JSON object is expected")
    if len(data) > PROPERTIES_MAX:
        raise BadEvent("data", f"at most {PROPERTIES_MAX} properties")
    numbers: dict[str, str] = {}
    texts: dict[str, str | bool] = {}
    for name, value in data.items():
        if not PROPERTY.fullmatch(name):
            raise BadEvent("data", f"names of properties match {PROPERTY.pattern}")
        match value:
            case None:
                continue
            case bool():
                texts[name] = value
            case str():
                texts[name] = _text(name, value)
            case int() | Decimal():
                numbers[name] = _number(name, value)
            case _:
                raise BadEvent(f"data.{name}", "a text, a number, true or false is expected")
    return numbers, texts


def identity_of(given: object) -> tuple[str | None, str | None]:
    """The id and source of whatever came, as far as they can be told back."""
    said = given if isinstance(given, dict) else {}
    event_id, source = (said.get(name) for name in ("id", "source"))
    return _told_back(event_id), _told_back(source)


def _told_back(value: object) -> str | None:
    if not isinstance(value, str) or len(value) > TEXT_BYTES_MAX or not _is_unicode(value):
        return None
    return value


def _text(name: str, value: str) -> str:
    if not _is_unicode(value) or CONTROL.search(value):
        raise BadEvent(f"data.{name}", "a text without control characters is expected")
    if len(value.encode()) > TEXT_BYTES_MAX:
        raise BadEvent(f"data.{name}", f"at most {TEXT_BYTES_MAX} bytes")
    return value


def _number(name: str, value: int | Decimal) -> str:
    """As short as it is exact."""
    if isinstance(value, int) and abs(value) < INTEGER_MAX:
        return str(value)
    try:
        exact = EXACT.quantize(Decimal(value), BILLIONTH)
    except (Inexact, InvalidOperation):
        detail = f"at most {DIGITS_BEFORE} digits before and {PLACES} after the point"
        raise BadEvent(f"data.{name}", detail) from None
    text = f"{exact:f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)
