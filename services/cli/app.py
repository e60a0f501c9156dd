"""The `clearinghouse` command: `python -m services.cli`.

It knows contracts and shared only, and asks services over the bus: it works with the web away. What
touches a service's store is a process of that service.
"""

from typing import Annotated

import typer

from contracts.streams import PUBLISHERS
from services.cli import (
    accounts,
    applying,
    credit,
    dead_letters,
    hooks,
    keys,
    limits,
    log,
    meters,
    plans,
    stops,
    streams,
    tickets,
    tokens,
    usage,
    watching,
)
from services.cli.replaying import run_replay
from services.cli.showing import showing

app = typer.Typer(no_args_is_help=True, pretty_exceptions_show_locals=False, add_completion=False)


@app.callback()
def clearinghouse() -> None:
    """Tools for who runs the clearinghouse."""


app.add_typer(accounts.app, name="accounts")
app.add_typer(keys.app, name="keys")
app.add_typer(hooks.app, name="hooks")
app.add_typer(limits.app, name="limits")
app.add_typer(plans.app, name="plan")
app.add_typer(credit.app, name="credit")
app.add_typer(stops.app, name="stops")
app.add_typer(streams.app, name="streams")
app.add_typer(tickets.app, name="tickets")
app.add_typer(tokens.app, name="tokens")
app.add_typer(meters.app, name="meters")
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(log.app, name="log")
app.add_typer(usage.app, name="usage")
app.command("time-zone")(limits.set_time_zone)
app.command()(watching.pool)
app.command()(watching.audit)
app.command()(applying.apply)


@app.command()
def replay(
    service: Annotated[str, typer.Argument(help=", ".join(PUBLISHERS), autocompletion=lambda: PUBLISHERS)],
    *,
    verify: Annotated[bool, typer.Option("--verify", help="Compare, and change nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="JSON lines, the report last.")] = False,
) -> None:
    """Make what a service keeps beside its log anew from the log.

    SERVICE_POSTGRES_DSN says where its store is, as for the service itself. Exits with 0 if all is
    as the log says now, with 1 if --verify found what is not, with 2 if the store did not play along.
    """
    if service not in PUBLISHERS:
        raise typer.BadParameter(f"one of {', '.join(PUBLISHERS)}", param_hint="SERVICE")
    with showing(json=json) as show:
        status = run_replay(service, show, verify=verify)
    raise typer.Exit(status)


def main() -> None:
    app(prog_name="clearinghouse")
