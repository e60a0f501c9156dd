"""`clearinghouse stops`: for whom and what nothing is signed, from one moment to the next."""

import csv
import re
import sys
from collections.abc import Iterator
from enum import StrEnum
from itertools import batched
from pathlib import Path
from typing import Annotated, get_args

import typer

from contracts.limits import LIST_MAX
from contracts.stops import LiftStops, ListStops, SetStops, StopKind, StopPage, StopToSet, StopView
from services.cli import options
from services.cli.house import House
from services.cli.printing import Columns, print_line, print_rows
from services.cli.running import RefusedHereError, run
from services.cli.saying import author, made

app = typer.Typer(no_args_is_help=True, help="Emergency stops, and the recipients that get nothing.")

RECIPIENT = re.compile(r"0x[0-9a-f]{40}")
TITLES = {"recipient", "address"}
CASELESS = {"recipient", "payer"}
PROBLEMS_SHOWN = 5

What = StrEnum("What", {kind.upper(): kind for kind in get_args(StopKind.__value__)})  # type: ignore[misc] # of the contract
WhatArgument = Annotated[What, typer.Argument(metavar="WHAT", help=", ".join(What))]
Value = Annotated[
    str, typer.Argument(metavar="[VALUE]", help="Which; none for everything, ACCOUNT:USER for a user.")
]


@app.command("set")
def set_stop(
    what: WhatArgument,
    value: Value = "",
    *,
    expires_at: options.ExpiresAt = None,
    actor: options.Actor = options.ACTOR,
    reason: options.Reason = options.REASON,
    json: options.Json = False,
) -> None:
    """Stop signing for everything, or for one account, user, key, job type, app, recipient …"""
    command = made(SetStops, stops=[_stop(what, value)], expires_at=expires_at, **author(actor, reason))

    async def work(house: House) -> None:
        _show((await house.ask(command, StopPage)).stops, json=json)

    run(work, json=json)


@app.command()
def lift(
    what: WhatArgument,
    value: Value = "",
    *,
    actor: options.Actor = options.ACTOR,
    reason: options.Reason = options.REASON,
    json: options.Json = False,
) -> None:
    """Sign again for what was stopped."""
    command = made(LiftStops, stops=[_stop(what, value)], **author(actor, reason))

    async def work(house: House) -> None:
        await house.ask(command, StopPage)
        if not json:
            print_line(f"{what} {value}".strip() + " is not stopped")

    run(work, json=json)


@app.command("list")
def list_stops(*, json: options.Json = False) -> None:
    """List all stops."""

    async def work(house: House) -> None:
        _show(await stops(house), json=json)

    run(work, json=json)


@app.command("import")
def import_recipients(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="Recipients, one a line, or CSV with a column recipient; - is stdin."
        ),
    ],
    *,
    expires_at: options.ExpiresAt = None,
    actor: options.Actor = options.ACTOR,
    reason: options.Reason = options.REASON,
    json: options.Json = False,
) -> None:
    """Deny many recipients. Nothing is stopped if a line of the file is wrong."""
    said = author(actor, reason)

    async def work(house: House) -> None:
        recipients = read_recipients(file)
        for part in batched(recipients, LIST_MAX):
            stopped = [StopToSet(what="recipient", value=recipient) for recipient in part]
            command = made(SetStops, stops=stopped, expires_at=expires_at, **said)
            page = await house.ask(command, StopPage)
            if json:
                _show(page.stops, json=True)
        if not json:
            print_line(f"{len(recipients)} recipients are stopped")

    run(work, json=json)


def read_recipients(file: Path) -> list[str]:
    """Each once, in lower case. Raises RefusedHereError with the lines that are none."""
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text()
    except (OSError, UnicodeDecodeError) as problem:
        raise RefusedHereError("bad_file", f"{file}: {type(problem).__name__}") from None
    found: dict[str, None] = {}
    wrong = []
    for number, value in _cells(text):
        if RECIPIENT.fullmatch(value.lower()):
            found[value.lower()] = None
        else:
            wrong.append(f"line {number}")
    if wrong:
        shown = ", ".join(wrong[:PROBLEMS_SHOWN]) + (", …" if len(wrong) > PROBLEMS_SHOWN else "")
        raise RefusedHereError("bad_file", f"{len(wrong)} of no recipient: {shown}; 0x and 40 hex digits")
    if not found:
        raise RefusedHereError("bad_file", "the file names no recipient")
    return list(found)


def _cells(text: str) -> Iterator[tuple[int, str]]:
    """The recipients' column with its lines' numbers; lines that are empty or begin with # have none."""
    column, first = 0, True
    for number, line in enumerate(text.splitlines(), start=1):
        cells = next(csv.reader([line]), [])
        if not cells or not line.strip() or line.lstrip().startswith("#"):
            continue
        names = [cell.strip().lower() for cell in cells]
        if first and TITLES & set(names):
            column = next(index for index, name in enumerate(names) if name in TITLES)
        else:
            yield number, cells[column].strip() if column < len(cells) else ""
        first = False


async def stops(house: House) -> list[StopView]:
    found: list[StopView] = []
    while True:
        after = f"{found[-1].what}:{found[-1].value}" if found else ""
        page = (await house.ask(ListStops(after=after, limit=LIST_MAX), StopPage)).stops
        found += page
        if len(page) < LIST_MAX:
            return found


def _stop(what: str, value: str) -> StopToSet:
    if (what == What["EVERYTHING"]) != (value == ""):
        raise typer.BadParameter("everything takes no value, all others take one")
    return made(StopToSet, what=str(what), value=value.lower() if what in CASELESS else value)


def _show(views: list[StopView], *, json: bool) -> None:
    print_rows([(view, _columns(view)) for view in views], json=json, nothing="nothing is stopped")


def _columns(view: StopView) -> Columns:
    return {
        "what": view.what,
        "value": view.value,
        "reason": view.reason,
        "actor": view.actor,
        "set": view.set_at,
        "expires": view.expires_at,
    }
