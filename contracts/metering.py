"""What metering says and listens to."""

from datetime import datetime
from typing import ClassVar, Literal

from pydantic import Field

from contracts.message import Command, Event, Message, WeiText

type GroupKey = Literal["account", "user", "job_type", "app", "recipient", "hour"]


class QueryUsage(Command):
    """Usage in [from_at, to_at), whole hours, summed by `group_by`."""

    subject: ClassVar[str] = "cmd.metering.query_usage.v1"

    account_id: str | None = None
    user_id: str | None = None
    from_at: datetime | None = None
    to_at: datetime | None = None
    group_by: list[GroupKey] = Field(default_factory=list)
    limit: int = Field(default=100, ge=1, le=1000)
    after: list[str] = Field(default_factory=list)  # the group of the last row seen


class UsageRow(Message):
    """`ev_wei` and `fee_wei` are floors of the exact sums; `cost_wei` is exact."""

    group: dict[str, str | None]
    payments: int
    tickets: int
    cost_wei: WeiText
    ev_wei: WeiText
    fee_wei: WeiText


class UsagePage(Message):
    kind: Literal["usage_page"] = "usage_page"
    rows: list[UsageRow]


class ListSessions(Command):
    subject: ClassVar[str] = "cmd.metering.list_sessions.v1"

    account_id: str | None = None
    limit: int = Field(default=50, ge=1, le=500)
    after: str = ""


class SessionRow(Message):
    session_id: str
    account_id: str
    user_id: str | None
    app: str
    job_type: str
    orchestrator: str
    stream_id: str | None
    opened_at: datetime
    last_at: datetime
    payments: int
    tickets: int
    cost_wei: WeiText
    closed: bool


class SessionPage(Message):
    kind: Literal["session_page"] = "session_page"
    sessions: list[SessionRow]


class UsageRecorded(Event):
    """A batch of payments became usage; the records themselves are in metering's log.

    Positions are of `publisher`'s log, in `from_epoch`; 0 from a metering that did not tell.
    """

    subject: ClassVar[str] = "evt.metering.usage_recorded.v1"

    from_position: int
    to_position: int
    records: int
    cost: WeiText
    publisher: str = "signer"
    from_epoch: int = 0
