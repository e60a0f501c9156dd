"""What metering says and listens to."""

from datetime import datetime
from typing import ClassVar, Literal

from pydantic import AwareDatetime, Field

from contracts.limits import Actor, Reason
from contracts.message import Command, Event, Message, WeiText

type GroupKey = Literal["account", "user", "job_type", "app", "recipient", "hour", "key", "capability"]
type Window = Literal["hour", "day", "month"]
GROUPS_MAX = 8


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
    filters: dict[GroupKey, str] = Field(default_factory=dict)  # only rows of these; "" is none


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


class QueryMeter(Command):
    """What a meter counted in [from_at, to_at), whole hours, by windows of a time zone and by group.

    Without a window it is one for all. `as_of` asks for what was known then.
    """

    subject: ClassVar[str] = "cmd.metering.query_meter.v1"

    meter: str = Field(max_length=128)
    account_id: str | None = None
    from_at: AwareDatetime | None = None
    to_at: AwareDatetime | None = None
    window: Window | None = None
    time_zone: str = Field(default="UTC", max_length=64)
    group_by: list[str] = Field(default_factory=list, max_length=GROUPS_MAX)
    filters: dict[str, str] = Field(default_factory=dict, max_length=GROUPS_MAX)  # by the same names
    limit: int = Field(default=100, ge=1, le=1000)
    after: list[str] = Field(default_factory=list)  # of the last row seen: its window's start, its group
    as_of: AwareDatetime | None = None


class MeterRow(Message):
    """What a meter counted of one group in one window.

    `value` is a decimal number: wei and counts whole, seconds with three places, each the floor of
    the exact sum. `late` of the records came more than an hour after their hour was over (of
    stream_seconds: as many seconds). Where some are of hours that were closed when they came, `of`
    names the months those lie in, such as 2026-06, in the time zone asked for.
    """

    window_start: datetime | None  # None: from the first there is
    window_end: datetime | None  # None: to the last there is
    group: dict[str, str | None]
    value: str | None  # None: a maximum of nothing
    late: int = 0
    of: list[str] = Field(default_factory=list)


class MeterPage(Message):
    kind: Literal["meter_page"] = "meter_page"
    meter: str
    rows: list[MeterRow]


class CloseUsage(Command):
    """Close an account's hours before `until`: they never change again. The same again does nothing."""

    subject: ClassVar[str] = "cmd.metering.close_usage.v1"

    account_id: str
    until: AwareDatetime  # a whole hour, not in the future
    actor: Actor
    reason: Reason


class ClosedUsage(Message):
    kind: Literal["closed_usage"] = "closed_usage"
    account_id: str
    closed_until: datetime


class ListSessions(Command):
    subject: ClassVar[str] = "cmd.metering.list_sessions.v1"

    account_id: str | None = None
    limit: int = Field(default=50, ge=1, le=500)
    after: str = ""
    user_id: str | None = None  # only this user's


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


class UsageClosed(Event):
    """What comes late for hours before `until` counts in the first open one."""

    subject: ClassVar[str] = "evt.metering.usage_closed.v1"

    account_id: str
    until: datetime
    actor: str
    reason: str
