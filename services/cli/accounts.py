"""`clearinghouse accounts`: open, list, show, suspend and resume them, and choose who pays."""

from typing import Annotated

import typer

from contracts import accounts as contract
from contracts.message import Command
from contracts.quota import PoolView, ReadPool
from contracts.signer import OrchestratorInfoSigned, SignOrchestratorInfo
from services.cli import options
from services.cli.house import House
from services.cli.printing import Columns, print_rows
from services.cli.running import RefusedHereError, run
from services.cli.saying import author
from shared.bus import CommandRefusedError

PAGE = 500
UNKNOWN = {"pool_not_found", "payer_unknown"}

app = typer.Typer(no_args_is_help=True, help="Who settles with us.")


@app.command("open")
def open_account(
    account_id: options.AccountId,
    *,
    payer: options.Payer = None,
    actor: options.Actor = options.ACTOR,
    reason: options.Reason = options.REASON,
    json: options.Json = False,
) -> None:
    """Open an account. Opening it again changes nothing."""
    said = author(actor, reason)
    address = payer.lower() if payer else None

    async def work(house: House) -> None:
        if address is not None:
            await require_known(house, account_id, address)
        command = contract.OpenAccount(account_id=account_id, payer=address, **said)
        show([await house.ask(command, contract.AccountView)], json=json)

    run(work, json=json)


@app.command("list")
def list_accounts(*, json: options.Json = False) -> None:
    """List all accounts, by id."""

    async def work(house: House) -> None:
        found: list[contract.AccountView] = []
        while True:
            asked = contract.ListAccounts(after=found[-1].account_id if found else "", limit=PAGE)
            page = (await house.ask(asked, contract.AccountPage)).accounts
            found += page
            if len(page) < PAGE:
                break
        show(found, json=json)

    run(work, json=json)


@app.command("show")
def show_account(account_id: options.AccountId, *, json: options.Json = False) -> None:
    """Show one account."""
    _change(contract.GetAccount(account_id=account_id), json=json)


@app.command()
def suspend(
    account_id: options.AccountId,
    *,
    reason: Annotated[str, typer.Option(metavar="CODE", help="Why: a code such as unpaid.")],
    actor: options.Actor = options.ACTOR,
    json: options.Json = False,
) -> None:
    """Refuse an account's keys at once, and stop its sessions."""
    _change(contract.SuspendAccount(account_id=account_id, **author(actor, reason)), json=json)


@app.command()
def resume(
    account_id: options.AccountId,
    *,
    actor: options.Actor = options.ACTOR,
    reason: options.Reason = options.REASON,
    json: options.Json = False,
) -> None:
    """End a suspension."""
    _change(contract.ResumeAccount(account_id=account_id, **author(actor, reason)), json=json)


@app.command("payer")
def set_payer(
    account_id: options.AccountId,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="0x and 40 hex digits.")],
    *,
    actor: options.Actor = options.ACTOR,
    reason: options.Reason = options.REASON,
    json: options.Json = False,
) -> None:
    """Choose who pays for an account's next keys. A key keeps the payer it was issued with."""
    command = contract.SetPayer(account_id=account_id, payer=address.lower(), **author(actor, reason))

    async def work(house: House) -> None:
        await require_known(house, account_id, command.payer)
        show([await house.ask(command, contract.AccountView)], json=json)

    run(work, json=json)


async def require_known(house: House, account_id: str, payer: str) -> None:
    """Raise RefusedHereError unless its funds were observed and the signer has its key."""
    try:
        await house.ask(ReadPool(payer=payer), PoolView)
        await house.ask(SignOrchestratorInfo(account_id=account_id, payer=payer), OrchestratorInfoSigned)
    except CommandRefusedError as refused:
        if refused.refusal.code not in UNKNOWN:
            raise
        raise RefusedHereError("unknown_payer", f"{payer} is none of our payers") from None


def show(accounts: list[contract.AccountView], *, json: bool) -> None:
    print_rows([(account, _columns(account)) for account in accounts], json=json, nothing="no accounts")


def _change(command: Command, *, json: bool) -> None:
    async def work(house: House) -> None:
        show([await house.ask(command, contract.AccountView)], json=json)

    run(work, json=json)


def _columns(account: contract.AccountView) -> Columns:
    return {
        "account": account.account_id,
        "status": account.status,
        "opened": account.opened_at,
        "payer": account.payer,
    }
