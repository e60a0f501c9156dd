"""`clearinghouse usage`: usage of accounts."""

import typer

from services.cli import metered, pushing

app = typer.Typer(no_args_is_help=True, help="Usage of accounts.")
app.command("show")(metered.show)
app.command("close")(metered.close)
app.command("push")(pushing.push)
