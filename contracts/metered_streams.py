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


class StreamRun(Message):
    """`incomplete`: its start or its end was lost; it ends at its last sign of life."""

    told_by: Literal["livepeer_studio", "streams"]
    state: StreamState
    began_at: datetime
    ended_at: datetime | None  # None: it runs
    elapsed_ms: int  # until its last sign of life, while it runs


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
    """A stream with its last runs and its payment sessions; the sums are of all sessions."""

    kind: Literal["metered_stream_view"] = "metered_stream_view"
    stream: MeteredStream
    runs: list[StreamRun]
    sessions: list[SessionRow]  # the first hundred
    session_count: int
    payments: int
    tickets: int
    cost_wei: WeiText
    orchestrator_swaps: int  # sessions after the first; each began with a minimum of its own


class StreamAssigned(Event):
    subject: ClassVar[str] = "evt.metering.stream_assigned.v1"

    account_id: str
    stream_id: str
    user_id: str
    actor: str
    reason: str
