"""`clearinghouse dead-letters`: entries that a reader could not apply, and applying them again."""

from typing import Annotated

import typer

from contracts.dead_letters import (
    LETTER_SERVICES,
    READERS,
    REDRIVEN_AT_ONCE_MAX,
    DeadLetter,
    DeadLetterPage,
    ListDeadLetters,
    ReadDeadLetter,
    RedriveDeadLetters,
    letters_subject,
)
from services.cli import options
from services.cli.house import House
from services.cli.printing import Columns, print_line, print_rows
from services.cli.running import REFUSED, run
from services.cli.saying import author, made

PAGE = 500
LIST_MAX = 10_000

app = typer.Typer(no_args_is_help=True, help="Entries of a log that a reader could not apply.")

LetterId = Annotated[str, typer.Argument(metavar="LETTER", help="Such as metering-record-usage:1:4711.")]
Reader = Annotated[str, typer.Option(metavar="NAME", help=f"Of this reader: {', '.join(READERS)}.")]


@app.command("list")
def list_letters(
    *,
    service: Annotated[
        str, typer.Option(metavar="NAME", help=f"{', '.join(LETTER_SERVICES)}; none: all.")
    ] = "",
    reader: Reader = "",
    every: Annotated[bool, typer.Option("--all", help="Also those that were redriven.")] = False,
    json: options.Json = False,
) -> None:
    """List those that wait, by reader and place in the log."""
    services = _services(service, reader)

    async def work(house: House) -> None:
        found: list[DeadLetter] = []
        for each in services:
            found += await _listed(house, each, reader, waiting=not every)
        print_rows([(letter, _columns(letter)) for letter in found], json=json, nothing="no dead letters")

    run(work, json=json)


@app.command()
def show(letter_id: LetterId, *, json: options.Json = False) -> None:
    """Show one with the entry itself."""
    asked = made(ReadDeadLetter, letter_id=letter_id)
    service = _service_of(letter_id)

    async def work(house: House) -> None:
        letter = await house.ask(asked, DeadLetter, subject=letters_subject(service, ReadDeadLetter))
        print_rows([(letter, _columns(letter))], json=json)
        if not json:
            print_line(letter.entry or "")

    run(work, json=json)


@app.command()
def redrive(
    letter_id: Annotated[str, typer.Argument(metavar="LETTER", help="None: all of a reader.")] = "",
    *,
    reader: Reader = "",
    actor: options.Actor = options.ACTOR,
    reason: options.Reason = options.REASON,
    json: options.Json = False,
) -> None:
    """Apply one again, or all that wait of a reader, oldest first. Exits with 1 if any of them stays."""
    if bool(letter_id) == bool(reader):
        raise typer.BadParameter("either LETTER or --reader says which")
    said = author(actor, reason)
    service = _service_of(letter_id) if letter_id else _services("", reader)[0]
    asked = made(RedriveDeadLetters, letter_id=letter_id or None, reader=reader, **said)

    async def work(house: House) -> None:
        tried = await _redriven(house, service, asked)
        print_rows([(letter, _columns(letter)) for letter in tried], json=json, nothing="no dead letters")
        if any(letter.state == "waiting" for letter in tried):
            raise typer.Exit(REFUSED)

    run(work, json=json)


async def _listed(house: House, service: str, reader: str, *, waiting: bool) -> list[DeadLetter]:
    found: list[DeadLetter] = []
    while len(found) < LIST_MAX:
        after = found[-1].letter_id if found else None
        asked = ListDeadLetters(reader=reader, waiting=waiting, after=after, limit=PAGE)
        subject = letters_subject(service, ListDeadLetters)
        page = (await house.ask(asked, DeadLetterPage, subject=subject)).letters
        found += page
        if len(page) < PAGE:
            break
    return found


async def _redriven(house: House, service: str, asked: RedriveDeadLetters) -> list[DeadLetter]:
    """Page by page; each letter is tried once, also where it stays."""
    subject = letters_subject(service, RedriveDeadLetters)
    tried: list[DeadLetter] = []
    while True:
        page = (await house.ask(asked, DeadLetterPage, subject=subject)).letters
        tried += page
        if asked.letter_id is not None or len(page) < REDRIVEN_AT_ONCE_MAX:
            return tried
        asked = asked.model_copy(update={"after": page[-1].letter_id})


def _services(service: str, reader: str) -> tuple[str, ...]:
    """Who is asked."""
    if reader and reader not in READERS:
        raise typer.BadParameter(f"--reader: one of {', '.join(READERS)}")
    if service and service not in LETTER_SERVICES:
        raise typer.BadParameter(f"--service: one of {', '.join(LETTER_SERVICES)}")
    if reader:
        return (READERS[reader].service,)
    return (service,) if service else LETTER_SERVICES


def _service_of(letter_id: str) -> str:
    reader = letter_id.split(":", maxsplit=1)[0]
    if reader not in READERS:
        raise typer.BadParameter("LETTER: begins with the name of no reader")
    return READERS[reader].service


def _columns(letter: DeadLetter) -> Columns:
    return {
        "letter": letter.letter_id,
        "event": letter.subject,
        "happened": letter.happened_at,
        "state": letter.state,
        "tries": letter.tries,
        "redriven by": letter.settled_by,
        "why": letter.settled_why,
        "reason": " ".join(letter.reason.split()),
    }
