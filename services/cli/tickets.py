"""`clearinghouse tickets import`: what another signer has signed, from a file of its events."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from pydantic import Field

from contracts.message import Message
from contracts.signed_tickets import RecordSignedTickets, SignedTicket, SignedTicketsAnswered
from contracts.ticket_events import BadEvent, not_found, read_event, read_json
from services.cli import options
from services.cli.house import House
from services.cli.limits import require_account
from services.cli.line_files import Line, require_file, send_file, tell_refused
from services.cli.printing import print_rows
from services.cli.running import REFUSED, run
from shared.bus import CommandRefusedError
from shared.clock import Clock

app = typer.Typer(no_args_is_help=True, help="Payments that an installation of go-livepeer has signed.")


@app.callback()
def tickets() -> None:
    """Payments that an installation of go-livepeer has signed."""


class ImportedTotals(Message):
    """What became of a file's events."""

    events: int = 0
    recorded: int = 0
    repeated: int = Field(default=0, description="Recorded before.")
    ignored: int = Field(default=0, description="Of other types, which tell no usage.")
    refused: int = Field(default=0, description="Their first lines are told on stderr.")


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

    async def send(self, lines: Sequence[Line]) -> None:
        """Raise ServiceUnavailableError; all that was sent before is recorded then."""
        read: list[SignedTicket] = []
        for number, text in lines:
            try:
                ticket = await self._read(text)
            except BadEvent as bad:
                self.counts["refused"] += 1
                tell_refused(number, str(bad), self.counts["refused"])
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
    require_file(path)
    refused = 0

    async def work(house: House) -> None:
        nonlocal refused
        importing = Importing(house)
        await send_file(importing, path)
        refused = importing.counts["refused"]
        print_rows([(importing.totals, importing.totals.model_dump())], json=json)

    run(work, json=json)
    if refused:
        raise typer.Exit(REFUSED)
