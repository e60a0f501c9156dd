"""`clearinghouse usage`: usage of accounts, pushed."""

import typer

from services.cli import pushing

app = typer.Typer(no_args_is_help=True, help="Usage of accounts.")
app.command("push")(pushing.push)
