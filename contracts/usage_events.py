"""Usage that operators push themselves: what an edge or the command tells metering, and what it answers.

Each event is recorded once, for ever: by its account, source and id.
"""

from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from contracts.message import Command, Event, Message

EVENTS_MAX = 500  # of one command, of one batch
PROPERTIES_MAX = 20

type EventId = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,128}$")]
type Source = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,256}$")]
type EventType = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,128}$")]
type PropertyName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,63}$")]
# As exact as it was told: 15 digits before the point, 9 after it.
type DecimalText = Annotated[str, StringConstraints(pattern=r"^-?[0-9]{1,15}(\.[0-9]{1,9})?$")]
type EventRefusal = Literal[
    "bad_event", "event_out_of_window", "unfit_value", "corrects_not_found", "corrects_differs"
]


class UsageEvent(Message):
    """A CloudEvent, read. Its data are `numbers` and `texts`; `voids`: it has none, and takes all back."""

    account_id: str
    source: Source
    event_id: EventId
    type: EventType
    user_id: str | None = None
    own_only: bool = False  # it came with a user's key: it may correct records of this user only
    at: datetime | None = None  # None: when metering gets it
    numbers: dict[PropertyName, DecimalText] = Field(default_factory=dict, max_length=PROPERTIES_MAX)
    texts: dict[PropertyName, str | bool] = Field(default_factory=dict, max_length=PROPERTIES_MAX)
    corrects: EventId | None = None  # the id of a record of the same source
    voids: bool = False


class RecordUsageEvents(Command):
    """Answered once all are durable, in their order."""

    subject: ClassVar[str] = "cmd.metering.record_usage_events.v1"

    events: list[UsageEvent] = Field(max_length=EVENTS_MAX)


class EventOutcome(Message):
    status: Literal["recorded", "repeated", "refused"]
    code: EventRefusal | None = None
    field: str | None = None
    detail: str | None = None


class UsageEventsAnswered(Message):
    kind: Literal["usage_events_answered"] = "usage_events_answered"
    outcomes: list[EventOutcome]


class UsageEventsRecorded(Event):
    """Usage of an account was recorded; the moments are those of the records, first and last."""

    subject: ClassVar[str] = "evt.metering.usage_events_recorded.v1"

    account_id: str
    records: int
    corrections: int
    from_at: datetime
    to_at: datetime
