"""Beginning and ending streams, and the estimates of signers that are not ours: quota answers both.

A stream here is one media stream of an account's user. Who begins one holds a place of
`streams_max` until it ends, or until no heartbeat came for `lease_seconds`.
"""

from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from contracts.limits import PRINTABLE, LimitRow
from contracts.message import Command, Event, Message, WeiText

LEASE_SECONDS_MIN, LEASE_SECONDS_MAX = 15, 3600

type StreamId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,128}$")]


class BeginStream(Command):
    """May this user start? The same stream again renews its lease, and is answered the same."""

    subject: ClassVar[str] = "cmd.quota.begin_stream.v1"

    account_id: str
    stream_id: StreamId
    user_id: str | None = None
    key_id: str | None = None
    token_id: str | None = None
    app: str = Field(default="", max_length=128, pattern=PRINTABLE)
    job_type: str = Field(default="", max_length=16)
    lease_seconds: int = Field(default=60, ge=LEASE_SECONDS_MIN, le=LEASE_SECONDS_MAX)


class StreamBegun(Message):
    """`rows` are the limits that hold for it, the account's first; its names say whose."""

    kind: Literal["stream_begun"] = "stream_begun"
    stream_id: str
    account_id: str
    user_id: str | None
    begun_at: datetime
    lease_ends_at: datetime
    rows: list[LimitRow]


class StreamRefused(Message):
    """`status` is that of the HTTP answer; `retry_after_seconds` when asking again may help."""

    kind: Literal["stream_refused"] = "stream_refused"
    status: Literal[402, 403, 409, 429, 503]
    code: str
    message: str
    retry_after_seconds: int | None = None
    rows: list[LimitRow] = Field(default_factory=list)


type StreamAnswer = Annotated[StreamBegun | StreamRefused, Field(discriminator="kind")]


class BeatStream(Command):
    """The stream goes on; answered with StreamBegun, or refused with `stream_not_found`."""

    subject: ClassVar[str] = "cmd.quota.beat_stream.v1"

    account_id: str
    stream_id: StreamId
    user_id: str | None = None  # whose it has to be, for it to be found; None: anybody's


class EndStream(Command):
    """A repeat, and one of a stream that nobody began, change nothing."""

    subject: ClassVar[str] = "cmd.quota.end_stream.v1"

    account_id: str
    stream_id: StreamId
    user_id: str | None = None  # whose it has to be, for it to be found; None: anybody's


class ListStreams(Command):
    subject: ClassVar[str] = "cmd.quota.list_streams.v1"

    account_id: str
    after: str = ""
    limit: int = Field(default=50, ge=1, le=500)


class StreamView(Message):
    kind: Literal["stream"] = "stream"
    stream_id: str
    account_id: str
    user_id: str | None
    key_id: str | None
    app: str
    job_type: str
    begun_at: datetime
    lease_ends_at: datetime | None  # None: it has ended
    ended_at: datetime | None = None
    ended_because: Literal["", "ended", "lease_expired"] = ""


class StreamPage(Message):
    """Those that run, by id."""

    kind: Literal["stream_page"] = "stream_page"
    streams: list[StreamView]


class AuthorizePayment(Command):
    """What an unmodified go-livepeer signer tells its webhook after each payment (protocol §8.1).

    All in wei as exact ratios (`"12"`, `"12/7"`), times in nanoseconds since 1970; `state_id` and
    `sequence` name the payment, so that a repeat counts once.
    """

    subject: ClassVar[str] = "cmd.quota.authorize_payment.v1"

    account_id: str
    user_id: str | None
    key_id: str
    state_id: str = Field(max_length=128, pattern=PRINTABLE)
    sequence: int = Field(ge=0)
    balance: str = Field(max_length=200)
    price_per_unit: int = Field(ge=0)
    pixels_per_unit: int = Field(ge=1)
    job_type: str = Field(max_length=16)
    last_update_ns: int | None
    app: str = Field(default="", max_length=128, pattern=PRINTABLE)
    orchestrator: str = Field(default="", max_length=64)
    token_id: str | None = None


class PaymentAuthorized(Message):
    """`status` 200, or what the signer's client is to be answered: 403, 429, 483 or 503."""

    kind: Literal["payment_authorized"] = "payment_authorized"
    status: int
    reason: str = ""
    estimate: WeiText = 0


class StreamStarted(Event):
    subject: ClassVar[str] = "evt.quota.stream_started.v1"

    account_id: str
    stream_id: str
    user_id: str | None
    key_id: str | None
    app: str
    job_type: str


class StreamStopped(Event):
    subject: ClassVar[str] = "evt.quota.stream_stopped.v1"

    account_id: str
    stream_id: str
    because: Literal["ended", "lease_expired"]
    alive_at: datetime | None = None  # its last heartbeat, where its lease expired and that is known
