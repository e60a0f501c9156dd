"""How long streams ran, whose they are, and what they cost: asked of metering.

A stream is told by Livepeer Studio's deliveries, by `/v1/streams`, or by both.
"""

from datetime import datetime
from typing import ClassVar, Literal

from pydantic import Field

from contracts.limits import Actor, Reason
from contracts.message import Command, Event, Message, WeiText
from contracts.metering import SessionRow
from contracts.stream_starts import StreamId

type StreamState = Literal["running", "idle", "timed_out", "incomplete"]


class ListMeteredStreams(Command):
    """The newest first, by when the first was heard of."""

    subject: ClassVar[str] = "cmd.metering.list_streams.v1"

    account_id: str
    unattributed: bool = False  # only those of which nobody said whose they are
    limit: int = Field(default=50, ge=1, le=500)
    after: str = ""  # the last one seen
    user_id: str | None = None  # only this user's


class ReadMeteredStream(Command):
    subject: ClassVar[str] = "cmd.metering.read_stream.v1"

    account_id: str
    stream_id: StreamId


class AssignStream(Command):
    """Say whose a stream is; its time moves to that user. The same again changes nothing."""

    subject: ClassVar[str] = "cmd.metering.assign_stream.v1"

    account_id: str
    stream_id: StreamId
    user_id: str = Field(pattern=r"^[A-Za-z0-9._:-]{1,128}$")
    actor: Actor
    reason: Reason


# `idle`: Livepeer Studio told its end; `ended`: `/v1/streams` did.
type StreamEnd = Literal["idle", "ended", "lease_expired", "timed_out", "incomplete"]


class StreamRun(Message):
    """`incomplete`: its start or its end was lost; it ends at its last sign of life."""

    told_by: Literal["livepeer_studio", "streams"]
    state: StreamState
    began_at: datetime
    ended_at: datetime | None  # None: it runs
    elapsed_ms: int  # until its last sign of life, while it runs
    because: StreamEnd | None = None  # None: it runs


class StreamGap(Message):
    """A time between two runs in which nothing ran."""

    from_at: datetime
    to_at: datetime
    elapsed_ms: int


class StreamSwap(Message):
    """A payment session after the first: its first payment is the minimum that the change has cost."""

    session_id: str
    orchestrator: str
    opened_at: datetime
    minimum_wei: WeiText | None  # None: it has not paid yet


class StreamRefusal(Message):
    """Payments of a session that were refused for one reason; `times` are tellings, ever rarer ones."""

    session_id: str
    reason: str
    status: int  # of the last
    times: int
    first_at: datetime
    last_at: datetime


class StreamMoment(Message):
    """`of` is a run's teller, or a session."""

    at: datetime
    what: Literal["run_began", "run_ended", "session_opened", "session_closed", "payments_refused"]
    of: str
    because: str = ""


class MeteredStream(Message):
    """`source_ms` is the video that came, as Livepeer Studio counts it, for comparison with the time."""

    kind: Literal["metered_stream"] = "metered_stream"
    stream_id: str
    account_id: str
    user_id: str | None
    user_from: Literal["assigned", "creator_id", "user_tags", "streams"] | None
    app: str
    state: StreamState
    first_at: datetime
    last_at: datetime
    elapsed_ms: int
    source_ms: int | None
    differs: bool
    too_late: int  # facts that came when their run was sealed


class MeteredStreamPage(Message):
    kind: Literal["metered_stream_page"] = "metered_stream_page"
    streams: list[MeteredStream]


class MeteredStreamView(Message):
    """A stream with its last runs and its payment sessions; the sums are of all sessions.

    All lists end at a hundred, the timeline at the last two hundred.
    """

    kind: Literal["metered_stream_view"] = "metered_stream_view"
    stream: MeteredStream
    runs: list[StreamRun]
    sessions: list[SessionRow]  # the first hundred
    session_count: int
    payments: int
    tickets: int
    cost_wei: WeiText
    orchestrator_swaps: int  # sessions after the first; each began with a minimum of its own
    stopped: str | None = None  # why, in words; None: it runs
    swaps: list[StreamSwap] = Field(default_factory=list)
    refusals: list[StreamRefusal] = Field(default_factory=list)  # the latest first
    gaps: list[StreamGap] = Field(default_factory=list)  # the last ones
    timeline: list[StreamMoment] = Field(default_factory=list)


class StreamClosed(Event):
    """A stream's last run is over, as far as is known: a late delivery may tell it anew, otherwise."""

    subject: ClassVar[str] = "evt.metering.stream_closed.v1"

    account_id: str
    stream_id: str
    user_id: str | None
    app: str
    began_at: datetime
    ended_at: datetime
    elapsed_ms: int  # of that run
    because: StreamEnd


class StreamAssigned(Event):
    subject: ClassVar[str] = "evt.metering.stream_assigned.v1"

    account_id: str
    stream_id: str
    user_id: str
    actor: str
    reason: str
