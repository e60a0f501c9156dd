"""`clearinghouse hooks`: where Livepeer Studio delivers an account's events, and with which secret.

A secret is derived here, as an edge derives it; it is printed once and goes nowhere else.
"""

from typing import Annotated, Literal

import typer

from contracts import hooks as contract
from contracts.message import Message
from services.cli import options
from services.cli.house import House
from services.cli.printing import Columns, print_line, print_rows
from services.cli.running import MissingSettingError, run
from services.cli.saying import author, made
from shared.settings import read_keys

app = typer.Typer(no_args_is_help=True, help="Where Livepeer Studio delivers an account's events.")

HookId = Annotated[str, typer.Argument(metavar="HOOK", help="The id of a hook: twelve letters and digits.")]
Overlap = Annotated[
    int, typer.Option("--overlap-seconds", help="For how long the secret before stays valid; 0: not at all.")
]


class HookSecret(Message):
    """A hook with its newest secret, which nobody is told again."""

    kind: Literal["hook_secret"] = "hook_secret"
    hook: contract.HookView
    url: str | None
    secret: str


@app.command()
def add(
    account_id: options.AccountId,
    *,
    actor: options.Actor = options.ACTOR,
    reason: options.Reason = options.REASON,
    json: options.Json = False,
) -> None:
    """Add a hook, and print its secret once."""
    said = author(actor, reason)

    async def work(house: House) -> None:
        key = _key(house)
        command = contract.AddHook(account_id=account_id, hook_id=contract.make_hook_id(), **said)
        _tell(house, key, await house.ask(command, contract.HookView), json=json)

    run(work, json=json)


@app.command("list")
def list_hooks(account_id: options.AccountId, *, json: options.Json = False) -> None:
    """List an account's hooks, in the order they were added."""

    async def work(house: House) -> None:
        page = await house.ask(contract.ListHooks(account_id=account_id), contract.HookPage)
        _show(page.hooks, json=json)

    run(work, json=json)


@app.command()
def rotate(
    account_id: options.AccountId,
    hook_id: HookId,
    *,
    overlap_seconds: Overlap = contract.OVERLAP_SECONDS,
    actor: options.Actor = options.ACTOR,
    reason: options.Reason = options.REASON,
    json: options.Json = False,
) -> None:
    """Give a hook a new secret, and print it once; the one before stays valid for a while."""
    command = made(
        contract.RotateHook,
        account_id=account_id,
        hook_id=hook_id,
        overlap_seconds=overlap_seconds,
        **author(actor, reason),
    )

    async def work(house: House) -> None:
        key = _key(house)
        _tell(house, key, await house.ask(command, contract.HookView), json=json)

    run(work, json=json)


@app.command()
def remove(
    account_id: options.AccountId,
    hook_id: HookId,
    *,
    actor: options.Actor = options.ACTOR,
    reason: options.Reason = options.REASON,
    json: options.Json = False,
) -> None:
    """Remove a hook, at once and for ever."""
    command = contract.RemoveHook(account_id=account_id, hook_id=hook_id, **author(actor, reason))

    async def work(house: House) -> None:
        _show([await house.ask(command, contract.HookView)], json=json)

    run(work, json=json)


def _key(house: House) -> bytes:
    keys = read_keys(house.settings.hook_keys)
    if not keys:
        raise MissingSettingError("CLEARINGHOUSE_HOOK_KEYS is not set: the edges' EDGE_HOOK_KEYS")
    return keys[0]


def _tell(house: House, key: bytes, hook: contract.HookView, *, json: bool) -> None:
    origin = house.settings.public_url
    url = contract.hook_url(origin, hook.hook_id) if origin else None
    told = HookSecret(hook=hook, url=url, secret=contract.hook_secret(key, hook.hook_id, hook.version))
    if json:
        print_line(told.model_dump_json())
        return
    print_line(f"Hook {hook.hook_id} of {hook.account_id} has secret number {hook.version}.")
    if url:
        print_line(f"URL:    {url}")
    print_line(f"Secret: {told.secret}")
    print_line("It is not shown again.")


def _show(hooks: list[contract.HookView], *, json: bool) -> None:
    print_rows([(hook, _columns(hook)) for hook in hooks], json=json, nothing="no hooks")


def _columns(hook: contract.HookView) -> Columns:
    return {
        "hook": hook.hook_id,
        "account": hook.account_id,
        "secret": hook.version,
        "the one before until": hook.previous_until_at,
        "added": hook.added_at,
        "removed": hook.removed,
    }
