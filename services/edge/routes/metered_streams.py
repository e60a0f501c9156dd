"""`/v1/accounts/{account_id}/streams`: how long an account's streams ran, whose they are, what they cost."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from contracts import metered_streams as contract
from contracts.metered_streams import StreamState
from services.edge.routes import cursor, models
from services.edge.routes.access import NEEDS_KEY, ReadableAccount, TheParts
from services.edge.routes.actors import TheActor
from services.edge.routes.limit_models import NEXT, Reason
from services.edge.routes.models import Body, OpaqueId, WeiOut
from shared.bus import ask

router = APIRouter(prefix="/v1/accounts/{account_id}/streams", tags=["Streams"], dependencies=NEEDS_KEY)

type StreamId = Annotated[OpaqueId, Path()]
type Unattributed = Annotated[bool, Query(description="Only those of which nobody said whose they are.")]


class MeteredStream(BaseModel):
    stream_id: str
    account_id: str
    user_id: str | None
    user_from: str | None = Field(
        description="Who said so: `assigned`, `creator_id`, `user_tags` or `streams` (`/v1/streams`)."
    )
    app: str
    state: StreamState = Field(
        description="Of its last run. `timed_out`: its end was not told; `incomplete`: an end of it was lost."
    )
    first_at: datetime
    last_at: datetime
    elapsed_ms: int = Field(description="How long it ran in all; up to the last sign of life while it runs.")
    source_ms: int | None = Field(
        description="The video that came, as Livepeer Studio counts it; null: not told."
    )
    differs: bool = Field(description="Time and video are more than a minute and a tenth apart.")
    too_late: int = Field(description="Facts that came after a hundred later runs, and changed nothing.")


class MeteredStreamPage(BaseModel):
    streams: list[MeteredStream]
    next: str | None = NEXT


class StreamRun(BaseModel):
    told_by: str = Field(
        description="`livepeer_studio`, or `streams` (`/v1/streams`), which count where the former tell none."
    )
    state: StreamState
    began_at: datetime
    ended_at: datetime | None
    elapsed_ms: int
    because: contract.StreamEnd | None = Field(
        description="What ended it; null: it runs. `idle`: Livepeer Studio said so, `ended`: `/v1/streams`."
    )


class StreamGap(BaseModel):
    """A time between two runs in which nothing ran."""

    from_at: datetime
    to_at: datetime
    elapsed_ms: int


class StreamSwap(BaseModel):
    session_id: str
    orchestrator: str
    opened_at: datetime
    minimum_wei: WeiOut | None = Field(
        description="Its first payment, which the change has cost; null: it has not paid yet."
    )


class StreamRefusal(BaseModel):
    session_id: str
    reason: str
    status: int
    times: int = Field(description="How often it was told: at first after 10 s, then ever more rarely.")
    first_at: datetime
    last_at: datetime


class StreamMoment(BaseModel):
    at: datetime
    what: str = Field(
        description="`run_began`, `run_ended`, `session_opened`, `session_closed` or `payments_refused`."
    )
    of: str = Field(description="Who told of the run, or the session's id.")
    because: str


class MeteredStreamView(BaseModel):
    """A stream with its last hundred runs and its first hundred payment sessions; sums are of all."""

    stream: MeteredStream
    runs: list[StreamRun]
    sessions: list[models.SessionRow]
    session_count: int
    payments: int
    tickets: int
    cost_wei: WeiOut
    orchestrator_swaps: int = Field(
        description="Sessions after the first; each cost a new minimum of its own."
    )
    stopped: str | None = Field(description="Why it stopped, in words; null while it runs.")
    swaps: list[StreamSwap] = Field(description="Of the first hundred sessions.")
    refusals: list[StreamRefusal] = Field(description="Of its payments, the latest first; a hundred.")
    gaps: list[StreamGap] = Field(description="Between runs, the last hundred.")
    timeline: list[StreamMoment] = Field(description="The last two hundred moments, in order of time.")


class Assignment(Body):
    user_id: OpaqueId
    reason: Reason


@router.get("")
async def list_metered_streams(
    account_id: ReadableAccount,
    parts: TheParts,
    limit: cursor.Limit = 50,
    cursor_: cursor.NamedCursor = None,
    unattributed: Unattributed = False,  # noqa: FBT002 (a query parameter)
) -> MeteredStreamPage:
    """List an account's streams, the newest first: those that run, and those that ran."""
    asked = contract.ListMeteredStreams(
        account_id=account_id, unattributed=unattributed, limit=limit, after=cursor.decode_one(cursor_)
    )
    page = await ask(parts.client, asked, contract.MeteredStreamPage)
    following = cursor.next_of(page.streams, limit, lambda stream: [stream.stream_id])
    streams = [MeteredStream.model_validate(stream, from_attributes=True) for stream in page.streams]
    return MeteredStreamPage(streams=streams, next=following)


@router.get("/{stream_id}")
async def read_metered_stream(
    account_id: ReadableAccount, stream_id: StreamId, parts: TheParts
) -> MeteredStreamView:
    """Read a stream: its runs, its time, and its payment sessions with what they cost."""
    asked = contract.ReadMeteredStream(account_id=account_id, stream_id=stream_id)
    view = await ask(parts.client, asked, contract.MeteredStreamView)
    return MeteredStreamView.model_validate(view, from_attributes=True)


@router.put("/{stream_id}/user")
async def assign_stream(
    account_id: ReadableAccount, stream_id: StreamId, body: Assignment, parts: TheParts, actor: TheActor
) -> MeteredStreamView:
    """Say whose a stream is. Its time moves to that user, in the hours it is in."""
    command = contract.AssignStream(
        account_id=account_id, stream_id=stream_id, user_id=body.user_id, actor=actor, reason=body.reason
    )
    view = await ask(parts.client, command, contract.MeteredStreamView)
    return MeteredStreamView.model_validate(view, from_attributes=True)
