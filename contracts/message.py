"""What every message on the bus has in common."""

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal
from zlib import crc32

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

# Wei passes 2**53, where JSON readers in other languages start to round.
WeiText = Annotated[int, PlainSerializer(str, return_type=str, when_used="json")]

CHECKSUM_HEADER = "Entry-Crc32"  # of a published entry


class Message(BaseModel):
    """A part of a contract: frozen, and forgiving about fields it does not know yet."""

    # Errors end up in logs and refusals: they say what is wrong with a field, not what was in it.
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class Command(Message):
    """A wish, in the imperative. It may be refused; a reply always comes."""

    subject: ClassVar[str]


class Event(Message):
    """A fact, in the past tense. It is never refused and never edited."""

    subject: ClassVar[str]


class Recovered(Event):
    """A fact that a restore had lost from the log, told again.

    The entry that told it first had this position in this epoch: a reader that got as far as that,
    in that epoch, has applied it and must not do so twice. Epochs are seconds since 2025, so none is
    ever used again, by whichever history.
    """

    lost_epoch: int
    lost_position: int
    happened_at: datetime


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
    epoch: int | None = None  # the reader's; one that ended before `after` is refused


class LogEpoch(Message):
    """A stretch of a log that no restore interrupted; `began_after` is a position of the one before."""

    epoch: int
    began_after: int


class LogPage(Message):
    """Entries in order; `head` is the last public position there is, `epoch` the log's own.

    A reader in an older epoch goes on where the next of `epochs` began: if it was further, the
    publisher lost what it had read since then.
    """

    kind: Literal["log_page"] = "log_page"
    epoch: int
    head: int
    entries: list[LogEntry]
    began_after: int = 0  # the last position before `epoch`
    epochs: list[LogEpoch] = Field(default_factory=list)  # all, in order; none from older publishers


def checksum(data: bytes) -> str:
    """CRC-32 of an entry's bytes as published, in eight hex digits: against bit rot, not forgery."""
    return f"{crc32(data):08x}"


def read_log_subject(publisher: str) -> str:
    return f"cmd.{publisher}.read_log.v1"
