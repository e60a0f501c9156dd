"""`clearinghouse apply`: brings plans and accounts to where a file says they are to be.

All is read and compared first; if anything of it cannot be, nothing is done. What is as it is to be is
left alone, so that a second run changes nothing, and one that was cut off is gone on with.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import typer

from contracts import accounts as contract
from contracts import limits as quota
from contracts.credit import CreditRow, CreditView, GrantCredit, ReadCredit
from contracts.message import Command, Message
from services.cli import options
from services.cli.accounts import require_known
from services.cli.accounts_file import Account, AccountsFile, Grant, read_file, refused
from services.cli.house import House
from services.cli.keys import keys_of
from services.cli.plans import plans
from services.cli.printing import print_line
from services.cli.running import RefusedHereError, run
from services.cli.saying import author
from shared.bus import CommandRefusedError, ServiceUnavailableError

REASON = "applied"


@dataclass(frozen=True, slots=True)
class Step:
    """One change: what a person is told, and who is asked for it."""

    text: str
    command: Command
    reply: type[Message]


class Applied(Message):
    """A line of `--json`: one change, done or (`--dry-run`) to be done."""

    done: bool
    change: str
    subject: str
    command: dict[str, Any]


class Summary(Message):
    """The last line: how many changes there were."""

    changes: int
    dry_run: bool


def apply(
    *,
    file: Annotated[Path, typer.Option("--file", "-f", metavar="FILE", help="YAML; see docs/accounts.yaml.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be done, and do nothing.")
    ] = False,
    actor: options.Actor = options.ACTOR,
    reason: options.Reason = REASON,
    json: options.Json = False,
) -> None:
    """Make plans, accounts, limits and credit as a file says. A second run changes nothing."""
    said = author(actor, reason)

    async def work(house: House) -> None:
        steps = await Comparison(house, read_file(file), said).steps()
        await _take(house, steps, dry_run=dry_run, json=json)

    run(work, json=json)


async def _take(house: House, steps: list[Step], *, dry_run: bool, json: bool) -> None:
    for number, step in enumerate(steps):
        if not dry_run:
            await _ask(house, step, f"{number} of {len(steps)} changes were made")
        if json:
            told = step.command.model_dump(mode="json", exclude_none=True)
            done = Applied(done=not dry_run, change=step.text, subject=step.command.subject, command=told)
            print_line(done.model_dump_json())
        else:
            print_line(f"would {step.text}" if dry_run else step.text)
    if json:
        print_line(Summary(changes=len(steps), dry_run=dry_run).model_dump_json())
    elif not steps:
        print_line("All is as the file says: nothing was changed.")
    else:
        print_line(f"{len(steps)} changes {'to make' if dry_run else 'made'}.")


async def _ask(house: House, step: Step, so_far: str) -> None:
    """A failure tells what was done before it; the next run goes on from there."""
    try:
        await house.ask(step.command, step.reply)
    except CommandRefusedError as problem:
        text = f"{step.text}: {problem.refusal.message}; {so_far}"
        raise RefusedHereError(problem.refusal.code, text) from problem
    except ServiceUnavailableError as problem:
        raise ServiceUnavailableError(f"{step.text}: {problem}; {so_far}") from problem


class Comparison:
    """A file against what there is."""

    def __init__(self, house: House, file: AccountsFile, said: Mapping[str, str]) -> None:
        self._house = house
        self._file = file
        self._said = dict(said)
        self._problems: list[str] = []
        self._known_payers: set[str] = set()

    async def steps(self) -> list[Step]:
        """The changes, in their order. Raise RefusedHereError with all that cannot be."""
        there = await plans(self._house)
        found = [step for plan in self._file.plans if (step := self._plan(plan.name, plan.told(), there))]
        names = {*there, *(plan.name for plan in self._file.plans)}
        for account in self._file.accounts:
            if account.plan is not None and account.plan not in names:
                self._problems.append(f"{account.account_id}: there is no plan {account.plan}")
            found += [step async for step in self._account(account)]
        if self._problems:
            raise refused(self._problems)
        return found

    def _plan(self, name: str, plan: quota.Plan, there: Mapping[str, quota.Plan]) -> Step | None:
        if name in there and _same_plan(there[name], plan):
            return None
        verb = "change" if name in there else "make"
        return Step(f"{verb} plan {name}", quota.SetPlan(name=name, plan=plan, **self._said), quota.PlanView)

    async def _account(self, account: Account) -> AsyncIterator[Step]:
        account_id = account.account_id
        known = await self._find(account_id)
        if account.payer is not None and (known is None or known.payer != account.payer):
            await self._require_payer(account_id, account.payer)
        if known is None:
            command = contract.OpenAccount(account_id=account_id, payer=account.payer, **self._said)
            yield Step(f"open account {account_id}", command, contract.AccountView)
        elif account.payer not in (None, known.payer):
            rotate = contract.SetPayer(account_id=account_id, payer=account.payer or "", **self._said)
            yield Step(f"set the payer of {account_id}", rotate, contract.AccountView)
        async for step in self._limiting(account):
            yield step
        for step in await self._credit(account):
            yield step
        # Last, so that an account that opens suspended has all it needs when it is resumed.
        if (last := self._status(account, known)) is not None:
            yield last

    def _status(self, account: Account, known: contract.AccountView | None) -> Step | None:
        account_id, now = account.account_id, known.status if known else "open"
        if account.status in (None, now):
            return None
        if account.status == "suspended":
            suspend = contract.SuspendAccount(account_id=account_id, **self._said)
            return Step(f"suspend {account_id}", suspend, contract.AccountView)
        resume = contract.ResumeAccount(account_id=account_id, **self._said)
        return Step(f"resume {account_id}", resume, contract.AccountView)

    async def _limiting(self, account: Account) -> AsyncIterator[Step]:
        account_id = account.account_id
        if any(wanted is not None for wanted in (account.plan, account.time_zone, account.limits)):
            view = await self._house.ask(quota.ReadLimits(account_id=account_id), quota.LimitsView)
            if account.plan not in (None, view.plan):
                assign = quota.AssignPlan(account_id=account_id, plan=account.plan, **self._said)
                yield Step(f"put {account_id} on plan {account.plan}", assign, quota.LimitsView)
            if account.time_zone not in (None, view.time_zone):
                zone = quota.SetTimeZone(
                    account_id=account_id, time_zone=account.time_zone or "", **self._said
                )
                yield Step(f"set the time zone of {account_id}", zone, quota.LimitsView)
            if account.limits is not None and not same_limits(view.own, account.limits):
                yield self._set_limits(f"set limits of {account_id}", account.limits, account_id=account_id)
        async for step in self._narrow_limits(account):
            yield step

    async def _narrow_limits(self, account: Account) -> AsyncIterator[Step]:
        """Of users and keys."""
        if account.keys:
            await self._require_keys(account)
        scopes = [("user", "user_id", user, limits) for user, limits in account.users.items()]
        scopes += [("key", "key_id", key, limits) for key, limits in account.keys.items()]
        for what, field, of, limits in scopes:
            scope = {"account_id": account.account_id, field: of}
            view = await self._house.ask(quota.ReadLimits(**scope), quota.LimitsView)
            if not same_limits(view.own, limits):
                yield self._set_limits(f"set limits of {what} {of} of {account.account_id}", limits, **scope)

    def _set_limits(self, text: str, limits: quota.Limits, **scope: str) -> Step:
        told = quota.Limits.model_validate(limits.model_dump())
        return Step(text, quota.SetLimits(**scope, limits=told, **self._said), quota.LimitsView)

    async def _credit(self, account: Account) -> list[Step]:
        if not account.credit:
            return []
        view = await self._house.ask(ReadCredit(account_id=account.account_id), CreditView)
        there = {row.grant_id: row for row in view.grants}
        steps = []
        for grant in account.credit:
            if grant.grant_id not in there:
                steps.append(self._grant(account.account_id, grant))
            elif not _same_grant(there[grant.grant_id], grant):
                text = (
                    f"{account.account_id}: grant {grant.grant_id} is another one; a grant is never changed"
                )
                self._problems.append(text)
        return steps

    def _grant(self, account_id: str, grant: Grant) -> Step:
        command = GrantCredit(account_id=account_id, **grant.model_dump(), **self._said)
        return Step(f"grant {grant.grant_id} to {account_id}", command, CreditView)

    async def _find(self, account_id: str) -> contract.AccountView | None:
        try:
            return await self._house.ask(contract.GetAccount(account_id=account_id), contract.AccountView)
        except CommandRefusedError as problem:
            if problem.refusal.code != "account_not_found":
                raise
            return None

    async def _require_payer(self, account_id: str, payer: str) -> None:
        if payer in self._known_payers:
            return
        try:
            await require_known(self._house, account_id, payer)
        except RefusedHereError as problem:
            self._problems.append(f"{account_id}: {problem}")
        self._known_payers.add(payer)

    async def _require_keys(self, account: Account) -> None:
        known = await self._find(account.account_id)
        there = {key.key_id for key in await keys_of(self._house, account.account_id)} if known else set()
        gone = [key_id for key_id in account.keys if key_id not in there]
        self._problems += [f"{account.account_id}: there is no key {key_id}" for key_id in gone]


def same_limits(one: quota.Limits, other: quota.Limits) -> bool:
    """Whether they mean the same: the order in lists says nothing, nor how a price is written."""
    return _meaning(one) == _meaning(other)


def _meaning(limits: quota.Limits) -> dict[str, Any]:
    named = {name: getattr(limits, name) for name in quota.Limits.model_fields}
    prices, expires_at, alarms = named["prices_max"], named["expires_at"], named["alarms"]
    if prices is not None:
        named["prices_max"] = {name: Fraction(price) for name, price in prices.items()}
    if expires_at is not None:
        named["expires_at"] = int(expires_at.timestamp())
    if alarms is not None:
        named["alarms"] = {**alarms.model_dump(), "holds": set(alarms.holds)}
    return {name: sorted(set(value)) if isinstance(value, list) else value for name, value in named.items()}


def _same_plan(one: quota.Plan, other: quota.Plan) -> bool:
    limits = ("limits", "user_limits", "key_limits")
    return (one.rank, one.trial) == (other.rank, other.trial) and all(
        same_limits(getattr(one, name), getattr(other, name)) for name in limits
    )


def _same_grant(row: CreditRow, grant: Grant) -> bool:
    expires = [int(at.timestamp()) if at else None for at in (row.expires_at, grant.expires_at)]
    return expires[0] == expires[1] and (row.credit, row.amount_micro_usd, row.priority) == (
        grant.credit,
        grant.amount_micro_usd,
        grant.priority,
    )
