"""`/v1/dead-letters`: entries of a log that a reader could not apply, for administrators."""

import asyncio
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from contracts import dead_letters as contract
from contracts.message import Command, Message
from services.edge.problems import UNPROCESSABLE, FieldError, Refused
from services.edge.routes import cursor
from services.edge.routes.access import NEEDS_ADMINISTRATOR, TheParts
from services.edge.routes.actors import TheActor
from services.edge.routes.limit_models import NEXT, Reason
from services.edge.routes.models import Body
from shared.bus import ask

type Named = Annotated[str, Field(pattern=contract.LETTER_ID_PATTERN)]

LETTER_ID: TypeAdapter[str] = TypeAdapter(Named)

router = APIRouter(prefix="/v1/dead-letters", tags=["Dead letters"], dependencies=NEEDS_ADMINISTRATOR)

type LetterId = Annotated[Named, Path(description="`<reader>:<epoch>:<position>`")]
type Service = Annotated[
    Literal["metering", "quota", "deposit_watcher"] | None, Query(description="Whose; none: everybody's.")
]
type Reader = Annotated[str, Query(max_length=64, pattern="^[a-z_-]*$", description="Of this reader only.")]
type Every = Annotated[bool, Query(alias="all", description="Also those that were redriven.")]


class DeadLetter(BaseModel):
    letter_id: str
    service: str
    reader: str
    publisher: str
    epoch: int
    position: int
    subject: str
    happened_at: datetime
    state: contract.LetterState = Field(
        description="`overtaken`: a later entry had set the same anew; `repeated`: it had been applied."
    )
    reason: str = Field(description="What was wrong when it was tried last.")
    tries: int
    buried_at: datetime
    tried_at: datetime
    settled_at: datetime | None
    settled_by: str | None
    settled_why: str | None
    entry: str | None = Field(description="As JSON, its first 100,000 characters; not in lists.")


class DeadLetterPage(BaseModel):
    letters: list[DeadLetter]
    next: str | None = NEXT


class Redrive(Body):
    reason: Reason


@router.get("")
async def list_dead_letters(
    parts: TheParts,
    *,
    limit: cursor.Limit = 50,
    cursor_: cursor.NamedCursor = None,
    service: Service = None,
    reader: Reader = "",
    every: Every = False,
) -> DeadLetterPage:
    """List dead letters by service, reader and place in the log. It is whole, or 503."""
    after = _place(cursor_)
    last = contract.READERS[_reader_in(after)].service if after else contract.LETTER_SERVICES[0]
    left = contract.LETTER_SERVICES[contract.LETTER_SERVICES.index(last) :]
    services = [each for each in left if service in {None, each}]
    pages = await asyncio.gather(
        *(
            _ask(
                parts,
                each,
                contract.ListDeadLetters(
                    reader=reader, waiting=not every, after=after if each == last else None, limit=limit
                ),
                contract.DeadLetterPage,
            )
            for each in services
        )
    )
    found = [letter for page in pages for letter in page.letters]
    letters = [_letter(letter) for letter in found[:limit]]
    following = cursor.next_of(letters, limit, lambda letter: [letter.letter_id])
    return DeadLetterPage(letters=letters, next=following)


@router.get("/{letter_id}")
async def read_dead_letter(letter_id: LetterId, parts: TheParts) -> DeadLetter:
    """Read one with the entry itself."""
    service = _service_of(letter_id)
    asked = contract.ReadDeadLetter(letter_id=letter_id)
    return _letter(await _ask(parts, service, asked, contract.DeadLetter))


@router.post("/{letter_id}/redrive")
async def redrive_dead_letter(
    letter_id: LetterId, body: Redrive, parts: TheParts, actor: TheActor
) -> DeadLetter:
    """Apply it with the code that buried it. It counts once; where it fails again, it stays `waiting`."""
    service = _service_of(letter_id)
    command = contract.RedriveDeadLetters(letter_id=letter_id, actor=actor, reason=body.reason)
    [letter] = (await _ask(parts, service, command, contract.DeadLetterPage)).letters
    return _letter(letter)


async def _ask[Reply: Message](parts: TheParts, service: str, command: Command, reply: type[Reply]) -> Reply:
    subject = contract.letters_subject(service, type(command))
    return await ask(parts.client, command, reply, subject=subject)


def _place(cursor_: str | None) -> str | None:
    """The letter after which a list goes on."""
    if cursor_ is None:
        return None
    try:
        letter_id = LETTER_ID.validate_python(cursor.decode_one(cursor_))
    except ValidationError:
        letter_id = ""
    if _reader_in(letter_id) not in contract.READERS:
        error = FieldError(field="query.cursor", message="not a cursor of this list")
        raise Refused(UNPROCESSABLE, "invalid_request", "query.cursor: not a cursor", errors=[error])
    return letter_id


def _service_of(letter_id: str) -> str:
    reader = contract.READERS.get(_reader_in(letter_id))
    if reader is None:
        raise Refused(404, "dead_letter_not_found", f"there is no dead letter {letter_id}")
    return reader.service


def _reader_in(letter_id: str) -> str:
    return letter_id.split(":", maxsplit=1)[0]


def _letter(letter: contract.DeadLetter) -> DeadLetter:
    return DeadLetter.model_validate(letter, from_attributes=True)
