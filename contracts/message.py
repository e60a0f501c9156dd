"""What every message on the bus has in common."""

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

# Wei passes 2**53, where JSON readers in other languages start to round.
WeiText = Annotated[int, PlainSerializer(str, return_type=str, when_used="json")]


class Message(BaseModel):
    """A part of a contract: frozen, and forgiving about fields it does not know yet."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Command(Message):
    """A wish, in the imperative. It may be refused; a reply always comes."""

    subject: ClassVar[str]


class Event(Message):
    """A fact, in the past tense. It is never refused and never edited."""

    subject: ClassVar[str]


class Refusal(Message):
    """The reply to a command that may not be carried out."""

    kind: Literal["refusal"] = "refusal"
    code: str
    message: str


class Fault(Message):
    """The reply to a command that could not be carried out now; asking again may help."""

    kind: Literal["fault"] = "fault"
    message: str


class LogEntry(Message):
    """One event with its place in its publisher's log.

    A reader applies an entry only if `previous_position` is the position it applied last;
    otherwise it reads the gap with `ReadLog`. `position` counts within `epoch`.
    """

    epoch: int
    position: int
    previous_position: int
    subject: str
    at: datetime
    event: dict[str, Any]


class ReadLog(Command):
    """Ask a publisher for the entries after a position; sent to `read_log_subject(publisher)`."""

    subject: ClassVar[str] = "cmd.*.read_log.v1"

    after: int = Field(ge=0)
    limit: int = Field(default=500, ge=1, le=500)


class LogPage(Message):
    """Entries in order; `head` is the last public position there is."""

    kind: Literal["log_page"] = "log_page"
    epoch: int
    head: int
    entries: list[LogEntry]


def read_log_subject(publisher: str) -> str:
    return f"cmd.{publisher}.read_log.v1"
