"""`clearinghouse log`: what every service tells, shown, written to a file, or forwarded."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from contracts.message import Message
from contracts.public_log import PublicEvent, encode
from contracts.streams import PUBLISHERS
from services.cli import options
from services.cli.house import House
from services.cli.log_export import export
from services.cli.log_forward import forward, receiver_of
from services.cli.log_source import NOW, POLL_SECONDS, LogSource, wanted_of
from services.cli.printing import print_line, said
from services.cli.running import run
from shared.cloud_events import PAYMENTS
from shared.log_reader import EpochOverError

app = typer.Typer(no_args_is_help=True, help="The log of all services: follow it, keep it, forward it.")

Types = Annotated[
    list[str] | None, typer.Option("--types", metavar="TYPE", help="Of this type; several times for more.")
]
Account = Annotated[str | None, typer.Option(metavar="ACCOUNT", help="What concerns this account.")]
From = Annotated[str | None, typer.Option("--from", metavar="CURSOR", help="After this; `now`: the end.")]


class Exported(Message):
    """What an export has added to its file, and where another one could begin."""

    events: int
    next: str


@app.command()
def tail(
    *,
    types: Types = None,
    account: Account = None,
    service: Annotated[str | None, typer.Option(metavar="NAME", help=", ".join(PUBLISHERS))] = None,
    json: options.Json = False,
) -> None:
    """Show what is told from now on, until Ctrl-C."""

    async def work(house: House) -> None:
        await _follow(LogSource.of(house), types or [], account, service, json=json)

    run(work, json=json)


@app.command("export")
def export_log(
    *,
    to: Annotated[Path, typer.Option(metavar="FILE", help="JSON lines; one that is there is gone on with.")],
    begin: From = None,
    json: options.Json = False,
) -> None:
    """Write the log to a file, up to where it ends now. Do it again for what has come since."""

    async def work(house: House) -> None:
        done = await export(LogSource.of(house), to, begin)
        told = Exported(events=done.events, next=encode(done.cursor))
        print_line(told.model_dump_json() if json else f"{told.events} events; they end at {told.next}")

    run(work, json=json)


@app.command("forward")
def forward_log(
    *,
    to: Annotated[str, typer.Option(metavar="URL", help="Where batches of CloudEvents are posted.")],
    position: Annotated[Path, typer.Option(metavar="FILE", help="Keeps how far it got.")],
    types: Types = None,
    account: Account = None,
    begin: From = None,
    json: options.Json = False,
) -> None:
    """Post payments as `create_signed_ticket`, each at least once, until stopped.

    CLEARINGHOUSE_FORWARD_HEADER has a header to send, such as `Authorization: Bearer …`. Other types
    of events are posted where they are asked for.
    """

    async def work(house: House) -> None:
        receiver = receiver_of(to, house.settings.forward_header)
        wanted = wanted_of(types or PAYMENTS, account)
        await forward(LogSource.of(house), receiver, position, wanted, begin)

    run(work, json=json)


async def _follow(
    source: LogSource, types: list[str], account: str | None, service: str | None, *, json: bool
) -> None:
    wanted = wanted_of(types, account, service)
    cursor = await source.start(NOW)
    while True:
        try:
            reading = await source.read(cursor, wanted)
        except EpochOverError as over:
            sys.stderr.write(f"{over}; going on from where both agree\n")
            cursor = over.cursor
            continue
        for event in reading.events:
            print_line(event.model_dump_json() if json else _line(event))
        cursor = reading.cursor
        if reading.at_end:
            await asyncio.sleep(POLL_SECONDS)


def _line(event: PublicEvent) -> str:
    """A line for a person: when, who tells, what, whose, and what the event says."""
    facts = {name: value for name, value in event.data.items() if name != "account_id"}
    return "  ".join([said(event.at), event.service, event.type, said(event.account_id), said(facts)])
