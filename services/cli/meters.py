"""`clearinghouse meters`: what pushed usage is counted by."""

from collections.abc import Sequence
from typing import Annotated

import typer

from contracts.meters import DefineMeter, ListMeters, MeterPage, MeterView, RetireMeter
from services.cli import options
from services.cli.house import House
from services.cli.printing import Columns, print_rows
from services.cli.running import run
from services.cli.saying import author, made

app = typer.Typer(no_args_is_help=True, help="What pushed usage is counted by.")

Name = Annotated[str, typer.Argument(metavar="METER", help="Such as tokens.")]


@app.command("list")
def list_meters(*, json: options.Json = False) -> None:
    """List all meters that were ever defined, by name."""

    async def work(house: House) -> None:
        _show((await house.ask(ListMeters(), MeterPage)).meters, json=json)

    run(work, json=json)


@app.command("define")
def define_meter(
    name: Name,
    *,
    event_type: Annotated[str, typer.Option("--type", metavar="TYPE", help="Of the events it counts.")],
    aggregation: Annotated[str, typer.Option(metavar="HOW", help="sum, count, max, unique or time.")],
    value: Annotated[
        str | None, typer.Option(metavar="PROPERTY", help="Which property of data; none of a count.")
    ] = None,
    group_by: Annotated[
        list[str] | None, typer.Option(metavar="PROPERTY", help="Up to four. Repeatable.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="PROPERTY=VALUE", help="Count these only. Repeatable.")
    ] = None,
    actor: options.Actor = options.ACTOR,
    reason: options.Reason = options.REASON,
    json: options.Json = False,
) -> None:
    """Count from now on. The same again changes nothing; a meter never changes."""
    command = made(
        DefineMeter,
        name=name,
        event_type=event_type,
        aggregation=aggregation,
        value=value,
        group_by=group_by or [],
        filter=_filter(only or []),
        **author(actor, reason),
    )

    async def work(house: House) -> None:
        _show([await house.ask(command, MeterView)], json=json)

    run(work, json=json)


@app.command("retire")
def retire_meter(
    name: Name,
    *,
    actor: options.Actor = options.ACTOR,
    reason: options.Reason = options.REASON,
    json: options.Json = False,
) -> None:
    """Count no more, for ever; what was counted stays."""
    command = made(RetireMeter, name=name, **author(actor, reason))

    async def work(house: House) -> None:
        _show([await house.ask(command, MeterView)], json=json)

    run(work, json=json)


def _filter(only: Sequence[str]) -> dict[str, list[str]]:
    allowed: dict[str, list[str]] = {}
    for each in only:
        name, equals, value = each.partition("=")
        if not equals:
            raise typer.BadParameter(f"{each}: PROPERTY=VALUE is expected", param_hint="--only")
        allowed.setdefault(name, []).append(value)
    return allowed


def _show(meters: Sequence[MeterView], *, json: bool) -> None:
    print_rows([(meter, _columns(meter)) for meter in meters], json=json, nothing="no meters")


def _columns(meter: MeterView) -> Columns:
    return {
        "meter": meter.name,
        "type": meter.event_type,
        "aggregation": meter.aggregation,
        "value": meter.value,
        "group by": meter.group_by,
        "only": {name: "|".join(values) for name, values in meter.filter.items()},
        "defined": meter.defined_at,
        "retired": meter.retired_at,
    }
