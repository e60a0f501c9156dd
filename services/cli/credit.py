"""`clearinghouse credit`: what an account has prepaid or was given, and what it owes."""

import secrets
from enum import StrEnum
from typing import Annotated

import typer

from contracts.credit import CreditView, GrantCredit, ReadCredit, VoidCredit
from services.cli import options
from services.cli.house import House
from services.cli.limits import require_account
from services.cli.printing import dollars, print_line, print_table
from services.cli.running import run
from services.cli.saying import author, made

app = typer.Typer(no_args_is_help=True, help="Prepaid credit, trials and promotions.")


class CreditKind(StrEnum):
    PREPAID = "prepaid"
    TRIAL = "trial"
    PROMOTION = "promotion"


@app.command()
def grant(
    account_id: options.AccountId,
    micro_usd: Annotated[int, typer.Argument(metavar="MICRO_USD", help="How much; 1000000 is a dollar.")],
    *,
    kind: Annotated[CreditKind, typer.Option(help="What it is.")] = CreditKind.PREPAID,
    grant_id: Annotated[
        str | None,
        typer.Option("--id", metavar="ID", help="The same again grants nothing; made up if absent."),
    ] = None,
    priority: Annotated[int, typer.Option(help="0 to 1000; lower ones are drawn on first.")] = 100,
    expires_at: options.ExpiresAt = None,
    actor: options.Actor = options.ACTOR,
    reason: options.Reason = options.REASON,
    json: options.Json = False,
) -> None:
    """Grant credit to an account."""
    command = made(
        GrantCredit,
        account_id=account_id,
        grant_id=grant_id or f"grant-{secrets.token_hex(8)}",
        credit=kind.value,
        amount_micro_usd=micro_usd,
        priority=priority,
        expires_at=expires_at,
        **author(actor, reason),
    )
    _ask(account_id, command, json=json)


@app.command()
def void(
    account_id: options.AccountId,
    grant_id: Annotated[str, typer.Argument(metavar="GRANT", help="The grant's id.")],
    *,
    actor: options.Actor = options.ACTOR,
    reason: options.Reason = options.REASON,
    json: options.Json = False,
) -> None:
    """Take back what is left of a grant."""
    command = made(VoidCredit, account_id=account_id, grant_id=grant_id, **author(actor, reason))
    _ask(account_id, command, json=json)


@app.command("show")
def show_credit(account_id: options.AccountId, *, json: options.Json = False) -> None:
    """Show an account's grants, and what it owes."""
    _ask(account_id, ReadCredit(account_id=account_id), json=json)


def _ask(account_id: str, command: GrantCredit | VoidCredit | ReadCredit, *, json: bool) -> None:
    async def work(house: House) -> None:
        await require_account(house, account_id)
        _show(await house.ask(command, CreditView), json=json)

    run(work, json=json)


def _show(view: CreditView, *, json: bool) -> None:
    if json:
        print_line(view.model_dump_json())
        return
    limit = dollars(view.credit_limit_micro_usd)
    print_line(
        f"Account {view.account_id}: prepaid {dollars(view.prepaid_micro_usd)},"
        f" owes {dollars(view.owed_micro_usd)}, may owe {limit}"
    )
    rows = [
        {
            "grant": row.grant_id,
            "kind": row.credit,
            "amount": dollars(row.amount_micro_usd),
            "left": dollars(row.left_micro_usd),
            "priority": row.priority,
            "expires": row.expires_at,
        }
        for row in view.grants
    ]
    if rows:
        print_table(rows)
