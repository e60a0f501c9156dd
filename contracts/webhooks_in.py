"""What an edge tells metering of Livepeer Studio's deliveries; it has verified and read them.

Times in milliseconds since 1970, as Livepeer Studio has them.
"""

from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from contracts.message import Command, Message

DELIVERIES_MAX = 100  # of one command
MILLISECONDS_MAX = 253_402_300_799_999  # the last of the year 9999

type Milliseconds = Annotated[int, Field(ge=0, le=MILLISECONDS_MAX)]
type ShortText = Annotated[str, Field(max_length=128)]


class Delivery(Message):
    """One delivery. `event_id` is the same over retries, and over all webhooks that bring the event.

    `body` is the request's own, and kept for a few days only: it may say more than ids.
    """

    account_id: str
    hook_id: str
    webhook_id: ShortText
    event_id: ShortText
    event: ShortText
    stream_id: ShortText
    created_at_ms: Milliseconds
    attempt_at_ms: Milliseconds
    received_at: datetime
    last_seen_ms: Milliseconds | None = None
    is_active: bool | None = None  # as it was when the event was processed, which may be later
    source_segments_duration_ms: Milliseconds | None = None  # of the stream's whole life
    user_id: ShortText | None = None
    user_from: Literal["creator_id", "user_tags"] | None = None
    body: str = ""


class RecordDeliveries(Command):
    """Answered once all are durable; what was recorded before is not recorded again."""

    subject: ClassVar[str] = "cmd.metering.record_deliveries.v1"

    deliveries: list[Delivery] = Field(max_length=DELIVERIES_MAX)


class DeliveriesRecorded(Message):
    kind: Literal["deliveries_recorded"] = "deliveries_recorded"
    recorded: int
    repeated: int
