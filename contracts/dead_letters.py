"""Dead letters: entries of a log that a reader could not apply, and what became of them.

Each service that follows logs keeps its own, and answers for them.
"""

from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from contracts.limits import Actor, Reason
from contracts.message import Command, Message
from contracts.streams import CONSUMERS

ENTRY_CHARACTERS_MAX = 100_000
REDRIVEN_AT_ONCE_MAX = 20

# `<reader>:<epoch>:<position>`: which reader of which log, and the entry's place in that log.
LETTER_ID_PATTERN = r"^[a-z][a-z_-]{1,60}:[0-9]{1,10}:[0-9]{1,18}$"
type LetterId = Annotated[str, Field(max_length=100)]
# `overtaken`: a later entry had set the same anew, so it had nothing left to say. `repeated`: what it
# tells again had been applied.
type LetterState = Literal["waiting", "applied", "overtaken", "repeated"]

READERS = {consumer.durable: consumer for consumer in CONSUMERS}
LETTER_SERVICES = tuple(dict.fromkeys(consumer.service for consumer in CONSUMERS))


class ListDeadLetters(Command):
    """By reader and place in its log; sent to `letters_subject(service, "list")`."""

    subject: ClassVar[str] = "cmd.*.list_dead_letters.v1"

    reader: str = ""  # empty: all
    waiting: bool = True  # only those that wait
    after: LetterId | None = None  # the last one seen
    limit: int = Field(default=50, ge=1, le=500)


class ReadDeadLetter(Command):
    subject: ClassVar[str] = "cmd.*.read_dead_letter.v1"

    letter_id: LetterId


class RedriveDeadLetters(Command):
    """Apply them, oldest first, with the code that buried them: one, or what waits of a reader.

    What cannot be applied stays, with its new reason. A repeat changes nothing.
    """

    subject: ClassVar[str] = "cmd.*.redrive_dead_letters.v1"

    letter_id: LetterId | None = None
    reader: str = ""  # where no letter is named
    after: LetterId | None = None  # of a reader: the last one of the page before
    limit: int = Field(default=REDRIVEN_AT_ONCE_MAX, ge=1, le=REDRIVEN_AT_ONCE_MAX)
    actor: Actor
    reason: Reason


class DeadLetter(Message):
    """`reason` is what was wrong when it was tried last, `settled_*` who redrove it, when and why."""

    kind: Literal["dead_letter"] = "dead_letter"
    letter_id: LetterId
    service: str
    reader: str
    publisher: str
    epoch: int
    position: int
    subject: str
    happened_at: datetime
    state: LetterState
    reason: str
    tries: int
    buried_at: datetime
    tried_at: datetime
    settled_at: datetime | None = None
    settled_by: str | None = None
    settled_why: str | None = None
    entry: str | None = None  # as JSON, its first characters, where one letter was asked for


class DeadLetterPage(Message):
    kind: Literal["dead_letter_page"] = "dead_letter_page"
    letters: list[DeadLetter]


def letters_subject(service: str, command: type[Command]) -> str:
    """Where one service is asked: `cmd.metering.list_dead_letters.v1`."""
    return command.subject.replace("*", service)


def letter_id(reader: str, epoch: int, position: int) -> str:
    return f"{reader}:{epoch}:{position}"
