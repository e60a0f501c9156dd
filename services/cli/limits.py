"""`clearinghouse limits`: what an account, a user or a key may spend and use; and its time zone."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from contracts.accounts import AccountView, GetAccount
from contracts.limits import Limits, LimitsView, ReadLimits, SetLimits, SetTimeZone
from services.cli import options
from services.cli.changing import until_unchanged
from services.cli.house import House
from services.cli.limit_options import LIMITS, merged, with_limits, without
from services.cli.printing import dollars, print_line, print_table, said
from services.cli.running import run
from services.cli.saying import author, made

app = typer.Typer(no_args_is_help=True, help="What may be spent and used.")


@app.command("show")
def show_limits(
    account_id: options.AccountId,
    *,
    user: options.User = None,
    key: options.Key = None,
    json: options.Json = False,
) -> None:
    """Show each limit with what is used of it, and what was set where."""
    asked = made(ReadLimits, **_scope(account_id, user, key))

    async def work(house: House) -> None:
        await require_account(house, account_id)
        show(await house.ask(asked, LimitsView), json=json)

    run(work, json=json)


@app.command("set")
@with_limits
def set_limits(
    account_id: options.AccountId,
    *,
    typed: Limits,
    user: options.User = None,
    key: options.Key = None,
    actor: options.Actor = options.ACTOR,
    reason: options.Reason = options.REASON,
    json: options.Json = False,
) -> None:
    """Set limits; those that are not named stay as they are."""
    scope, author_said = _scope(account_id, user, key), author(actor, reason)
    if typed == Limits():
        raise typer.BadParameter("name at least one limit")
    made(SetLimits, **scope, limits=typed, **author_said)  # before anybody is asked

    async def work(house: House) -> None:
        view = await _change(house, scope, lambda before: merged(before, typed), author_said)
        show(view, json=json)

    run(work, json=json)


@app.command("clear")
def clear_limits(
    account_id: options.AccountId,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[LIMIT]...", help="Which; none named: all.")
    ] = None,
    *,
    user: options.User = None,
    key: options.Key = None,
    actor: options.Actor = options.ACTOR,
    reason: options.Reason = options.REASON,
    json: options.Json = False,
) -> None:
    """Drop limits that were set; those of the plan hold in their place."""
    scope, author_said = _scope(account_id, user, key), author(actor, reason)
    without(Limits(), names or [])

    async def work(house: House) -> None:
        dropped = names or list(LIMITS)
        view = await _change(house, scope, lambda before: without(before, dropped), author_said)
        show(view, json=json)

    run(work, json=json)


def set_time_zone(
    account_id: options.AccountId,
    time_zone: Annotated[str, typer.Argument(metavar="ZONE", help="Of IANA, such as Europe/Berlin.")],
    *,
    actor: options.Actor = options.ACTOR,
    reason: options.Reason = options.REASON,
    json: options.Json = False,
) -> None:
    """Choose whose hours, days and months an account's limits count in."""
    command = made(SetTimeZone, account_id=account_id, time_zone=time_zone, **author(actor, reason))

    async def work(house: House) -> None:
        await require_account(house, account_id)
        show(await house.ask(command, LimitsView), json=json)

    run(work, json=json)


async def require_account(house: House, account_id: str) -> None:
    """Raise CommandRefusedError unless there is one: limits may be set for what does not exist yet."""
    await house.ask(GetAccount(account_id=account_id), AccountView)


def show(view: LimitsView, *, json: bool) -> None:
    if json:
        print_line(view.model_dump_json())
        return
    whose = next((f", {name[:-3]} {of}" for name, of in _narrow(view) if of), "")
    print_line(f"Account {view.account_id}{whose}: plan {said(view.plan)}, time zone {view.time_zone}")
    print_line(f"{view.sessions} sessions, {view.streams} streams, suspended: {said(view.suspended)}")
    if view.most_micro_usd is not None:
        print_line(f"The most it can cost us: {dollars(view.most_micro_usd)}")
    if view.rows:
        print_table([row.model_dump() for row in view.rows])
    for title, limits in (("Set here", view.own), ("In effect", view.effective)):
        told = {name: value for name in LIMITS if (value := getattr(limits, name)) is not None}
        print_line(f"{title}:{'' if told else ' nothing'}")
        for name, value in told.items():
            print_line(f"  {name} {said(value)}")


def _narrow(view: LimitsView) -> list[tuple[str, str | None]]:
    return [("token_id", view.token_id), ("key_id", view.key_id), ("user_id", view.user_id)]


async def _change(
    house: House, scope: dict[str, Any], change: Callable[[Limits], Limits], author_said: dict[str, str]
) -> LimitsView:
    """Change what is set, and nothing that somebody else sets meanwhile."""
    await require_account(house, scope["account_id"])

    async def once() -> LimitsView:
        before = await house.ask(ReadLimits(**scope), LimitsView)
        limits = change(before.own)
        command = made(SetLimits, **scope, limits=limits, version=before.version, **author_said)
        return await house.ask(command, LimitsView)

    return await until_unchanged(once)


def _scope(account_id: str, user: str | None, key: str | None) -> dict[str, Any]:
    if user is not None and key is not None:
        raise typer.BadParameter("either --user or --key")
    return {"account_id": account_id, "user_id": user, "key_id": key}
