"""Livepeer Studio's deliveries: is one signed by a secret of its hook, and what does it say?

DeliveryRefused
├── Forged      401: unsigned, signed by somebody else, or too old
└── Malformed   400: signed, and not what Livepeer Studio sends
"""

import hmac
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from contracts.hooks import HookView
from contracts.webhooks_in import MILLISECONDS_MAX, Delivery
from services.edge.problems import FieldError
from services.edge.routes.models import OpaqueId

SKEW_MS = 300_000
NUMBER = re.compile(r"[0-9]{1,15}")
DIGEST = re.compile(r"[0-9a-f]{64}")
SCHEME = "v1"
OF_STREAMS = ("stream.", "recording.", "multistream.")  # whose `event_object` is a stream
USER_TAGS = ("user", "clearinghouse_user")
USER_ID: TypeAdapter[str] = TypeAdapter(OpaqueId)

type UserFrom = Literal["creator_id", "user_tags"]


class DeliveryRefused(Exception):  # noqa: N818 (a refusal is an answer, not an error)
    """The delivery is not recorded."""


class Forged(DeliveryRefused):
    pass


class Malformed(DeliveryRefused):
    def __init__(self, fields: Sequence[FieldError]) -> None:
        super().__init__("; ".join(f"{one.field}: {one.message}" for one in fields[:5]))
        self.fields = list(fields)


@dataclass(frozen=True, slots=True)
class Signature:
    """What the header `Livepeer-Signature` says: when, and the digests of the scheme we know."""

    at_ms: int
    digests: tuple[str, ...]


def _milliseconds(given: object) -> object:
    """Numbers, and as older deliveries have it, numbers as text."""
    if isinstance(given, str) and NUMBER.fullmatch(given):
        return int(given)
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        raise ValueError("milliseconds since 1970 are expected")  # noqa: TRY004 (pydantic tells it)
    return given


type Milliseconds = Annotated[int, Field(ge=0, le=MILLISECONDS_MAX), BeforeValidator(_milliseconds)]


class StudioStream(BaseModel):
    """The parent stream, as it was when the event was processed."""

    model_config = ConfigDict(alias_generator=to_camel, extra="ignore")

    id: OpaqueId
    last_seen: Milliseconds | None = None
    is_active: bool | None = None
    source_segments_duration: Annotated[float, Field(ge=0, le=10**11, allow_inf_nan=False)] | None = None
    creator_id: Any = None
    user_tags: Any = None


class StudioEvent(BaseModel):
    """The body of a delivery, in the shape of today or the older one (`event_object`)."""

    model_config = ConfigDict(alias_generator=to_camel, extra="ignore")

    id: OpaqueId
    webhook_id: OpaqueId
    created_at: Milliseconds
    timestamp: Milliseconds
    event: Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,64}$")]
    stream: StudioStream | None = None
    event_object: Annotated[Any, Field(alias="event_object")] = None


def read_signature(header: bytes | None) -> Signature:
    """Read `t=<ms>,v1=<hex>`: every digest of the scheme is kept, others are ignored. Raises Forged."""
    times: list[int] = []
    digests: list[str] = []
    for part in (header or b"").decode("latin-1").split(","):
        name, _, value = part.strip().partition("=")
        if name == "t" and NUMBER.fullmatch(value):
            times.append(int(value))
        elif name == SCHEME and DIGEST.fullmatch(value.lower()):
            digests.append(value.lower())
    if len(times) != 1 or not digests:
        raise Forged("a header Livepeer-Signature: t=<milliseconds>,v1=<hex> is needed")
    return Signature(times[0], tuple(digests))


def verify(signature: Signature, body: bytes, secrets: Iterable[str]) -> None:
    """Raise Forged unless one of the digests is the body's under one of the secrets."""
    found = False
    for secret in secrets:
        expected = hmac.new(secret.encode(), body, "sha256").hexdigest()
        for digest in signature.digests:
            found |= hmac.compare_digest(expected, digest)
    if not found:
        raise Forged("the signature is not by this hook's secret")


def read_event(body: bytes, signature: Signature, now: datetime) -> StudioEvent:
    """Read a body that was verified. Raises Malformed, or Forged if it is too old or another's."""
    try:
        event = StudioEvent.model_validate_json(body)
    except ValidationError as problem:
        raise Malformed(_fields(problem, "body")) from None
    if event.timestamp != signature.at_ms:
        raise Forged("the signature is of another moment than the body")
    if abs(_now_ms(now) - signature.at_ms) > SKEW_MS:
        raise Forged("the delivery is too old, or a clock is wrong")
    if event.stream is None and event.event_object is not None and event.event.startswith(OF_STREAMS):
        return event.model_copy(update={"stream": _stream(event.event_object)})
    return event


def to_delivery(event: StudioEvent, hook: HookView, body: bytes, now: datetime) -> Delivery | None:
    """What metering is told; None for events that are of no stream."""
    stream = event.stream
    if stream is None:
        return None
    user_id, user_from = user_of(stream)
    seconds = stream.source_segments_duration
    return Delivery(
        account_id=hook.account_id,
        hook_id=hook.hook_id,
        webhook_id=event.webhook_id,
        event_id=event.id,
        event=event.event,
        stream_id=stream.id,
        created_at_ms=event.created_at,
        attempt_at_ms=event.timestamp,
        received_at=now,
        last_seen_ms=stream.last_seen or None,  # 0: never
        is_active=stream.is_active,
        source_segments_duration_ms=round(seconds * 1000) if seconds is not None else None,
        user_id=user_id,
        user_from=user_from,
        body=body.decode(),
    )


def user_of(stream: StudioStream) -> tuple[str | None, UserFrom | None]:
    """The account's user, if the stream names one by an opaque id: a mail address is none."""
    creator = stream.creator_id
    named = creator.get("value") if isinstance(creator, dict) else creator
    if (user_id := _user_id(named)) is not None:
        return user_id, "creator_id"
    tags = stream.user_tags if isinstance(stream.user_tags, dict) else {}
    for tag in USER_TAGS:
        if (user_id := _user_id(tags.get(tag))) is not None:
            return user_id, "user_tags"
    return None, None


def _user_id(named: object) -> str | None:
    try:
        return USER_ID.validate_python(named, strict=True)
    except ValidationError:
        return None


def _stream(given: object) -> StudioStream:
    try:
        return StudioStream.model_validate(given)
    except ValidationError as problem:
        raise Malformed(_fields(problem, "body.event_object")) from None


def _fields(problem: ValidationError, where: str) -> list[FieldError]:
    """What is wrong, without what was given: it may name a person."""
    return [
        FieldError(field=".".join([where, *map(str, error["loc"])]), message=error["msg"])
        for error in problem.errors(include_input=False, include_context=False, include_url=False)
    ]


def _now_ms(now: datetime) -> int:
    return int(now.timestamp() * 1000)
