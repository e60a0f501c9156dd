"""`clearinghouse plan`: limits under a name, and who is on which."""

from enum import StrEnum
from functools import partial
from typing import Annotated, Any

import typer

from contracts.limits import AssignPlan, Limits, LimitsView, ListPlans, Plan, PlanPage, PlanView, SetPlan
from services.cli import options
from services.cli.changing import until_unchanged
from services.cli.house import House
from services.cli.limit_options import LIMITS, merged, with_limits, without
from services.cli.limits import require_account, show
from services.cli.printing import Columns, print_rows, said
from services.cli.running import run
from services.cli.saying import author, made

app = typer.Typer(no_args_is_help=True, help="Limits under a name; accounts override them.")

PlanName = Annotated[str, typer.Argument(metavar="PLAN", help="Such as trial or pro.")]


class Of(StrEnum):
    ACCOUNT = "account"
    USERS = "users"
    KEYS = "keys"


FIELDS = {Of.ACCOUNT: "limits", Of.USERS: "user_limits", Of.KEYS: "key_limits"}


@app.command("set")
@with_limits
def set_plan(
    name: PlanName,
    *,
    typed: Limits,
    of: Annotated[
        Of, typer.Option(help="Whose limits: the account's, or each user's or key's.")
    ] = Of.ACCOUNT,
    unset: Annotated[list[str] | None, typer.Option(metavar="LIMIT", help="Drop one. Repeatable.")] = None,
    rank: Annotated[
        int | None, typer.Option(help="0 to 9: new sessions of lower ones go without first.")
    ] = None,
    trial: Annotated[bool | None, typer.Option("--trial/--no-trial")] = None,
    actor: options.Actor = options.ACTOR,
    reason: options.Reason = options.REASON,
    json: options.Json = False,
) -> None:
    """Make a plan, or change one: what is not named stays as it is."""
    author_said = author(actor, reason)
    without(Limits(), unset or [])
    made(SetPlan, name=name, plan=Plan(**{FIELDS[of]: typed}), **author_said)  # before anybody is asked

    async def change(house: House) -> PlanView:
        unknown = PlanView(name=name, plan=Plan(), version=0)
        found = {view.name: view for view in await _plans(house)}.get(name, unknown)
        before = found.plan
        of_those = without(getattr(before, FIELDS[of]), unset or [])
        changed: dict[str, Any] = {FIELDS[of]: merged(of_those, typed)}
        changed |= {key: value for key, value in (("rank", rank), ("trial", trial)) if value is not None}
        plan = made(Plan, **{**{each: getattr(before, each) for each in Plan.model_fields}, **changed})
        command = made(SetPlan, name=name, plan=plan, version=found.version, **author_said)
        return await house.ask(command, PlanView)

    async def work(house: House) -> None:
        _show([await until_unchanged(partial(change, house))], json=json)

    run(work, json=json)


@app.command("list")
def list_plans(*, json: options.Json = False) -> None:
    """List all plans with what they set."""

    async def work(house: House) -> None:
        _show(await _plans(house), json=json)

    run(work, json=json)


@app.command("assign")
def assign_plan(
    account_id: options.AccountId,
    name: Annotated[str | None, typer.Argument(metavar="[PLAN]", help="The plan; none: the default.")] = None,
    *,
    actor: options.Actor = options.ACTOR,
    reason: options.Reason = options.REASON,
    json: options.Json = False,
) -> None:
    """Put an account on a plan."""
    command = made(AssignPlan, account_id=account_id, plan=name, **author(actor, reason))

    async def work(house: House) -> None:
        await require_account(house, account_id)
        show(await house.ask(command, LimitsView), json=json)

    run(work, json=json)


async def plans(house: House) -> dict[str, Plan]:
    """All there are, by name."""
    return {view.name: view.plan for view in await _plans(house)}


async def _plans(house: House) -> list[PlanView]:
    return (await house.ask(ListPlans(), PlanPage)).plans


def _show(views: list[PlanView], *, json: bool) -> None:
    print_rows([(view, _columns(view)) for view in views], json=json, nothing="no plans")


def _columns(view: PlanView) -> Columns:
    plan = view.plan
    told = {str(of): _told(getattr(plan, FIELDS[of])) for of in Of}
    return {"plan": view.name, "rank": plan.rank, "trial": plan.trial, **told}


def _told(limits: Limits) -> str:
    return " ".join(
        f"{name}={said(value)}" for name in LIMITS if (value := getattr(limits, name)) is not None
    )
