"""Emergency stops: whose payments are not signed, until somebody lifts that."""

from datetime import datetime
from typing import ClassVar, Literal

from pydantic import AwareDatetime, Field

from contracts.limits import LIST_MAX, PRINTABLE, Authored, in_key
from contracts.message import Command, Event, Message

STOPS = "stops"  # that of emergency stops: small, so that it is written at once
STOP_ENTRIES = "stop."


type StopKind = Literal[
    "everything", "account", "user", "key", "job_type", "app", "recipient", "orchestrator_url", "payer"
]


class StopView(Message):
    """Whose payments are not signed. `value` is empty for everything, `account:user` for a user."""

    kind: Literal["stop"] = "stop"
    what: StopKind
    value: str
    reason: str
    actor: str
    set_at: datetime
    expires_at: datetime | None


class StopToSet(Message):
    what: StopKind
    value: str = Field(default="", max_length=2048, pattern=PRINTABLE)


class SetStops(Authored, Command):
    """Stop signing for all of these at once; each signer obeys within a second."""

    subject: ClassVar[str] = "cmd.quota.set_stops.v1"

    stops: list[StopToSet] = Field(min_length=1, max_length=LIST_MAX)
    expires_at: AwareDatetime | None = None


class LiftStops(Authored, Command):
    subject: ClassVar[str] = "cmd.quota.lift_stops.v1"

    stops: list[StopToSet] = Field(min_length=1, max_length=LIST_MAX)


class ListStops(Command):
    subject: ClassVar[str] = "cmd.quota.list_stops.v1"

    after: str = ""
    limit: int = Field(default=100, ge=1, le=LIST_MAX)


class StopPage(Message):
    """In the order of `what:value`, which is the cursor."""

    kind: Literal["stop_page"] = "stop_page"
    stops: list[StopView]


def stop_entry(what: str, value: str) -> str:
    return f"{STOP_ENTRIES}{what}.{in_key(value)}"


class StopSet(Event):
    subject: ClassVar[str] = "evt.quota.stop_set.v1"

    what: StopKind
    value: str
    expires_at: datetime | None
    actor: str
    reason: str


class StopLifted(Event):
    subject: ClassVar[str] = "evt.quota.stop_lifted.v1"

    what: StopKind
    value: str
    actor: str
    reason: str
