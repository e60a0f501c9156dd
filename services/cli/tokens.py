"""`clearinghouse tokens`: end a session token before its time."""

from typing import Annotated

import typer

from contracts.limits import EndToken, LimitsView
from services.cli import options
from services.cli.house import House
from services.cli.limits import require_account, show
from services.cli.running import run
from services.cli.saying import author, made

app = typer.Typer(no_args_is_help=True, help="Session tokens, which backends make from their keys.")

TokenId = Annotated[str, typer.Argument(metavar="TOKEN", help="Its `token_id`: twelve letters and digits.")]


@app.callback()
def tokens() -> None:
    """Session tokens, which backends make from their keys."""


@app.command()
def end(
    account_id: options.AccountId,
    token_id: TokenId,
    *,
    actor: options.Actor = options.ACTOR,
    reason: options.Reason = options.REASON,
    json: options.Json = False,
) -> None:
    """Refuse a session token from now on; what its sessions hold comes back."""
    command = made(EndToken, account_id=account_id, token_id=token_id, **author(actor, reason))

    async def work(house: House) -> None:
        await require_account(house, account_id)
        show(await house.ask(command, LimitsView), json=json)

    run(work, json=json)
