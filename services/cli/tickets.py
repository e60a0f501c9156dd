"""`clearinghouse tickets import`: what another signer has signed, from a file of its events."""

import sys
from collections.abc import Iterator
from itertools import batched
from pathlib import Path
from typing import Annotated, TextIO

import typer
from pydantic import Field

from contracts.message import Message
from contracts.signed_tickets import TICKETS_MAX, RecordSignedTickets, SignedTicket, SignedTicketsAnswered
from contracts.ticket_events import BadEvent, not_found, read_event, read_json
from services.cli import options
from services.cli.house import House
from services.cli.limits import require_account
from services.cli.printing import print_rows
from services.cli.running import REFUSED, RefusedHereError, run
from shared.bus import CommandRefusedError, ServiceUnavailableError
from shared.clock import Clock

LINE_CHARACTERS_MAX = 64 * 1024

app = typer.Typer(no_args_is_help=True, help="Payments that an installation of go-livepeer has signed.")

type Line = tuple[int, str]


@app.callback()
def tickets() -> None:
    """Payments that an installation of go-livepeer has signed."""


class ImportedTotals(Message):
    """What became of a file's events."""

    events: int = 0
    recorded: int = 0
    repeated: int = Field(default=0, description="Recorded before.")
    ignored: int = Field(default=0, description="Of other types, which tell no usage.")
    refused: int = Field(default=0, description="Their lines are told on stderr.")


class Importing:
    """Sends batch after batch, and adds up what became of them."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._clock = Clock()
        self._accounts: dict[str, bool] = {}  # whether it is there
        self.counts = {"recorded": 0, "repeated": 0, "ignored": 0, "refused": 0}

    @property
    def totals(self) -> ImportedTotals:
        return ImportedTotals(events=sum(self.counts.values()), **self.counts)

    async def send(self, lines: tuple[Line, ...]) -> None:
        """Raise ServiceUnavailableError; all that was sent before is recorded then."""
        read: list[SignedTicket] = []
        for number, text in lines:
            try:
                ticket = await self._read(text)
            except BadEvent as bad:
                self.counts["refused"] += 1
                sys.stderr.write(f"line {number}: {bad}\n")
                continue
            if ticket is None:
                self.counts["ignored"] += 1
            else:
                read.append(ticket)
        if read:
            answered = await self._house.ask(RecordSignedTickets(tickets=read), SignedTicketsAnswered)
            for outcome in answered.outcomes:
                self.counts[outcome] += 1

    async def _read(self, text: str) -> SignedTicket | None:
        """Raise BadEvent; and ServiceUnavailableError where nobody tells whether its account is there."""
        ticket = read_event(read_json(text), self._clock.now())
        if ticket is not None and not await self._is_there(ticket.account_id):
            raise not_found()
        return ticket

    async def _is_there(self, account_id: str) -> bool:
        if account_id not in self._accounts:
            try:
                await require_account(self._house, account_id)
            except CommandRefusedError:
                self._accounts[account_id] = False
            else:
                self._accounts[account_id] = True
        return self._accounts[account_id]


@app.command("import")
def import_tickets(
    path: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="An event in JSON on each line, as on Kafka; - is stdin."),
    ],
    *,
    json: options.Json = False,
) -> None:
    """Record payments that a go-livepeer has signed itself, from its events `create_signed_ticket`.

    Each is booked once, to the account and user of its `auth_id`: after whatever went wrong, say it
    again. Exits with 1 if some events were refused; all others are recorded.
    """
    if str(path) != "-" and not path.is_file():
        raise typer.BadParameter(f"there is no file {path}", param_hint="FILE")
    refused = 0

    async def work(house: House) -> None:
        nonlocal refused
        importing = Importing(house)
        await _import(importing, path)
        refused = importing.counts["refused"]
        print_rows([(importing.totals, importing.totals.model_dump())], json=json)

    run(work, json=json)
    if refused:
        raise typer.Exit(REFUSED)


async def _import(importing: Importing, path: Path) -> None:
    try:
        with sys.stdin if str(path) == "-" else path.open(encoding="utf-8") as file:
            for lines in batched(_lines(file), TICKETS_MAX):
                await importing.send(lines)
    except UnicodeDecodeError:
        raise RefusedHereError("bad_file", "the file is not UTF-8") from None
    except ServiceUnavailableError as problem:
        done = importing.totals.events
        raise ServiceUnavailableError(f"{problem}; {done} events are done, say it again to go on") from None


def _lines(file: TextIO) -> Iterator[Line]:
    """Those with something on them."""
    number = 0
    while text := file.readline(LINE_CHARACTERS_MAX + 1):
        number += 1
        if len(text) > LINE_CHARACTERS_MAX:
            raise RefusedHereError("bad_file", f"line {number}: longer than {LINE_CHARACTERS_MAX} characters")
        if text.strip():
            yield number, text
