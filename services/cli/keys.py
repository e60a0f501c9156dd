"""`clearinghouse keys`: issue, list, revoke and reissue API keys.

A key is made here, as an edge makes one; its text is printed once and goes nowhere else.
"""

from typing import Annotated, Literal

import typer

from contracts import accounts as contract
from contracts import key_watch, limits
from contracts.api_keys import Key, make, sdk_token
from contracts.message import Message
from services.cli import options
from services.cli.house import House
from services.cli.printing import Columns, print_line, print_rows, print_table
from services.cli.running import MissingSettingError, RefusedHereError, run
from services.cli.saying import author
from shared.bus import ServiceUnavailableError

PAGE = 500

app = typer.Typer(no_args_is_help=True, help="The credentials of an account.")


class IssuedKey(Message):
    """A key with its text, which nobody can tell again; `replaces` is the id of the one it came for."""

    kind: Literal["issued_key"] = "issued_key"
    key: contract.ApiKeyView
    api_key: str
    sdk_token: str | None
    replaces: str | None = None


@app.command()
def issue(
    account_id: options.AccountId,
    *,
    user: options.User = None,
    actor: options.Actor = options.ACTOR,
    reason: options.Reason = options.REASON,
    json: options.Json = False,
) -> None:
    """Issue an API key, and print it once."""
    said = author(actor, reason)

    async def work(house: House) -> None:
        _tell_issued(await _issue(house, make(), account_id, user, said), json=json)

    run(work, json=json)


@app.command("list")
def list_keys(account_id: options.AccountId, *, json: options.Json = False) -> None:
    """List an account's keys by id, revoked ones included."""

    async def work(house: House) -> None:
        _show(await keys_of(house, account_id), json=json)

    run(work, json=json)


@app.command()
def revoke(
    account_id: options.AccountId,
    key_id: options.KeyId,
    *,
    actor: options.Actor = options.ACTOR,
    reason: options.Reason = options.REASON,
    json: options.Json = False,
) -> None:
    """Revoke a key, at once and for ever."""
    said = author(actor, reason)

    async def work(house: House) -> None:
        _show([await _revoke(house, account_id, key_id, said)], json=json)

    run(work, json=json)


@app.command()
def reissue(
    account_id: options.AccountId,
    key_id: Annotated[str | None, typer.Argument(metavar="[KEY]", help="The id of an API key.")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All keys of the account.")] = False,
    actor: options.Actor = options.ACTOR,
    reason: options.Reason = options.REASON,
    json: options.Json = False,
) -> None:
    """Revoke an account's key, or all of them, and issue others for the same users and with the same limits.

    All are revoked before the first is issued: what was stolen works no longer.
    """
    said = author(actor, reason)
    if (key_id is None) != every:
        raise typer.BadParameter("either the id of a key or --all")

    async def work(house: House) -> None:
        _pepper(house)  # or all would be revoked and none issued
        found = [key for key in await keys_of(house, account_id) if key.status == "active"]
        revoked = [key for key in found if every or key.key_id == key_id]
        if not every and not revoked:  # it tells who has no such key
            revoked = [await _revoke(house, account_id, key_id or "", said)]
        for key in revoked:
            await _revoke(house, account_id, key.key_id, said)
        for key in revoked:
            _tell_issued(await _replace(house, key, said), json=json)
        if not revoked and not json:
            print_line("no key is active")

    run(work, json=json)


@app.command()
def activity(account_id: options.AccountId, key_id: options.KeyId, *, json: options.Json = False) -> None:
    """Show from where a key is used, whom it pays, what it spends, and which alarms that raised."""

    async def work(house: House) -> None:
        if key_id not in {key.key_id for key in await keys_of(house, account_id)}:
            raise RefusedHereError("key_not_found", f"{account_id} has no key {key_id}")
        asked = key_watch.ReadKeyActivity(account_id=account_id, key_id=key_id)
        _show_activity(await house.ask(asked, key_watch.KeyActivity), json=json)

    run(work, json=json)


async def keys_of(house: House, account_id: str) -> list[contract.ApiKeyView]:
    found: list[contract.ApiKeyView] = []
    while True:
        after = found[-1].key_id if found else ""
        asked = contract.ListApiKeys(account_id=account_id, after=after, limit=PAGE)
        page = (await house.ask(asked, contract.ApiKeyPage)).keys
        found += page
        if len(page) < PAGE:
            return found


async def _replace(house: House, old: contract.ApiKeyView, said: dict[str, str]) -> IssuedKey:
    """The limits of the old key are the new one's before it works."""
    key = make()
    asked = limits.ReadLimits(account_id=old.account_id, key_id=old.key_id)
    own = (await house.ask(asked, limits.LimitsView)).own
    if own != limits.Limits():
        command = limits.SetLimits(account_id=old.account_id, key_id=key.key_id, limits=own, **said)
        await house.ask(command, limits.LimitsView)
    issued = await _issue(house, key, old.account_id, old.user_id, said)
    return issued.model_copy(update={"replaces": old.key_id})


async def _issue(
    house: House, key: Key, account_id: str, user_id: str | None, said: dict[str, str]
) -> IssuedKey:
    command = contract.IssueApiKey(
        account_id=account_id,
        key_id=key.key_id,
        secret_hash=key.hash(_pepper(house)),
        user_id=user_id,
        **said,
    )
    try:
        view = await house.ask(command, contract.ApiKeyView)
    except ServiceUnavailableError as problem:
        text = f"{problem}; if key {key.key_id} was issued, nobody has it: revoke it"
        raise ServiceUnavailableError(text) from problem
    url = house.settings.public_url
    return IssuedKey(key=view, api_key=key.text, sdk_token=sdk_token(url, key.text) if url else None)


async def _revoke(house: House, account_id: str, key_id: str, said: dict[str, str]) -> contract.ApiKeyView:
    command = contract.RevokeApiKey(account_id=account_id, key_id=key_id, **said)
    return await house.ask(command, contract.ApiKeyView)


def _pepper(house: House) -> bytes:
    if house.settings.key_pepper is None:
        raise MissingSettingError("CLEARINGHOUSE_KEY_PEPPER is not set: the edges' EDGE_KEY_PEPPER")
    return house.settings.key_pepper.get_secret_value().encode()


def _tell_issued(issued: IssuedKey, *, json: bool) -> None:
    if json:
        print_line(issued.model_dump_json())
        return
    came_for = f" for {issued.replaces}" if issued.replaces else ""
    print_line(f"Key {issued.key.key_id} of {issued.key.account_id} was issued{came_for}.")
    print_line(f"API key:   {issued.api_key}")
    if issued.sdk_token:
        print_line(f"SDK token: {issued.sdk_token}")
    print_line("It is not shown again.")


def _show(keys: list[contract.ApiKeyView], *, json: bool) -> None:
    print_rows([(key, _columns(key)) for key in keys], json=json, nothing="no keys")


def _columns(key: contract.ApiKeyView) -> Columns:
    return {
        "key": key.key_id,
        "account": key.account_id,
        "user": key.user_id,
        "status": key.status,
        "issued": key.issued_at,
        "payer": key.payer,
    }


def _show_activity(found: key_watch.KeyActivity, *, json: bool) -> None:
    if json:
        print_line(found.model_dump_json())
        return
    stop = found.stop
    stopped = f"stopped since {stop.set_at:%Y-%m-%dT%H:%M:%SZ} ({stop.reason})" if stop else "not stopped"
    print_line(f"Key {found.key_id} of {found.account_id}: {stopped}")
    print_line(f"{found.spent_this_hour_wei} wei were spent this hour")
    for title, rows in (
        ("Highest hours", found.highest_hours),
        ("Networks", found.networks),
        ("Recipients", found.recipients),
        ("Alarms", found.alarms),
    ):
        print_line(f"{title}:{'' if rows else ' none'}")
        if rows:
            print_table([dict(row) for row in rows])
