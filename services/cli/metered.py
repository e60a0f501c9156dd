"""What `clearinghouse usage show` and `close` do: sums of usage, and hours that never change again."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from contracts.metering import (
    ClosedUsage,
    CloseUsage,
    MeterPage,
    MeterRow,
    QueryMeter,
    QueryUsage,
    UsagePage,
    UsageRow,
)
from services.cli import options
from services.cli.house import House
from services.cli.limits import require_account
from services.cli.printing import print_line, print_rows, said
from services.cli.running import run
from services.cli.saying import author, made
from shared.csv_text import csv_text, safe

PAGE = 500
FILTER = "NAME:VALUE"

Account = Annotated[str | None, typer.Argument(metavar="ACCOUNT", help="None: the whole house.")]
Meter = Annotated[str | None, typer.Option(metavar="NAME", help="Such as tickets; none: payments in all.")]
From = Annotated[str | None, typer.Option("--from", metavar="TIME", help="A whole hour.")]
To = Annotated[str | None, typer.Option("--to", metavar="TIME", help="Exclusive, a whole hour.")]
Window = Annotated[str | None, typer.Option(metavar="KIND", help="A row for each hour, day or month.")]
TimeZone = Annotated[str, typer.Option(metavar="ZONE", help="Of windows, such as Europe/Berlin.")]
GroupBy = Annotated[list[str] | None, typer.Option(metavar="NAME", help="Such as user or app. Repeatable.")]
Only = Annotated[
    list[str] | None, typer.Option("--filter", metavar=FILTER, help="These only, by group. Repeatable.")
]
AsOf = Annotated[str | None, typer.Option(metavar="TIME", help="As it was known then.")]
Limit = Annotated[int, typer.Option(min=1, max=100_000, help="How many rows at most.")]
Csv = Annotated[bool, typer.Option("--csv", help="A header line, and a line for each row.")]
Until = Annotated[str, typer.Option(metavar="TIME", help="What lies before this whole hour is closed.")]

BOUNDS = ("window_start", "window_end")
COUNTED = ("value", "late", "of")
SUMS = ("payments", "tickets", "cost_wei", "ev_wei", "fee_wei")

type Row = UsageRow | MeterRow


def show(
    account_id: Account = None,
    *,
    meter: Meter = None,
    from_at: From = None,
    to_at: To = None,
    window: Window = None,
    time_zone: TimeZone = "UTC",
    group_by: GroupBy = None,
    only: Only = None,
    as_of: AsOf = None,
    limit: Limit = 1000,
    json: options.Json = False,
    csv: Csv = False,
) -> None:
    """Show what was used, of an account or of all, by meter, window and group."""
    asked: dict[str, Any] = {
        "account_id": account_id,
        "from_at": from_at,
        "to_at": to_at,
        "group_by": group_by or [],
        "filters": _filters(only or []),
    }
    if meter is not None:
        asked |= {"meter": meter, "window": window, "time_zone": time_zone, "as_of": as_of}
    elif window or as_of:
        raise typer.BadParameter("--window and --as-of need a --meter")
    model = QueryUsage if meter is None else QueryMeter
    made(model, **asked)  # so that a mistake is one before anybody is asked

    async def work(house: House) -> None:
        rows = await _rows(house, model, asked, limit)
        if csv:
            groups = group_by or []
            header = [*groups, *SUMS] if meter is None else [*BOUNDS, *groups, *COUNTED]
            print_line(_csv(rows, header).removesuffix("\r\n"))
        else:
            print_rows([(row, _columns(row)) for row in rows], json=json, nothing="no usage")

    run(work, json=json)


def close(
    account_id: options.AccountId,
    *,
    until: Until,
    actor: options.Actor = options.ACTOR,
    reason: options.Reason = options.REASON,
    json: options.Json = False,
) -> None:
    """Close an account's hours: they never change again. It cannot be taken back."""
    command = made(CloseUsage, account_id=account_id, until=until, **author(actor, reason))

    async def work(house: House) -> None:
        await require_account(house, account_id)
        closed = await house.ask(command, ClosedUsage)
        columns = {"account": closed.account_id, "closed until": closed.closed_until}
        print_rows([(closed, columns)], json=json)

    run(work, json=json)


async def _rows(
    house: House, model: type[QueryUsage | QueryMeter], asked: dict[str, Any], limit: int
) -> Sequence[Row]:
    """Page by page, as many as are wanted."""
    found: list[Row] = []
    after: list[str] = []
    while len(found) < limit:
        size = min(PAGE, limit - len(found))
        command = model.model_validate({**asked, "limit": size, "after": after})
        page = await _page(house, command)
        found += page
        after = _place(page[-1], command) if page else []
        if len(page) < size or not after:
            break
    return found


async def _page(house: House, command: QueryUsage | QueryMeter) -> Sequence[Row]:
    if isinstance(command, QueryMeter):
        return (await house.ask(command, MeterPage)).rows
    return (await house.ask(command, UsagePage)).rows


def _place(row: Row, command: QueryUsage | QueryMeter) -> list[str]:
    group = [row.group.get(name) or "" for name in command.group_by]
    if isinstance(row, MeterRow) and isinstance(command, QueryMeter) and command.window and row.window_start:
        return [row.window_start.isoformat(), *group]
    return group


def _columns(row: Row) -> dict[str, object]:
    names = SUMS if isinstance(row, UsageRow) else COUNTED
    bounds = {} if isinstance(row, UsageRow) else {name: getattr(row, name) for name in BOUNDS}
    return {**bounds, **row.group, **{name: getattr(row, name) for name in names}}


def _csv(rows: Sequence[Row], header: Sequence[str]) -> str:
    cells = [[_cell(row, name, value) for name, value in _columns(row).items()] for row in rows]
    return csv_text([safe(name) for name in header], cells)


def _cell(row: Row, name: str, value: object) -> str:
    if isinstance(value, list):
        return " ".join(value)
    text = "" if value is None else said(value)
    return safe(text) if name in row.group else text


def _filters(only: Sequence[str]) -> dict[str, str]:
    filters: dict[str, str] = {}
    for each in only:
        name, colon, value = each.partition(":")
        if not colon:
            raise typer.BadParameter(f"{each}: {FILTER} is expected", param_hint="--filter")
        filters[name] = value
    return filters
