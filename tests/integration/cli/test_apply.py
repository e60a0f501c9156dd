"""A file of accounts and plans is applied: once, as a whole or not at all."""

from pathlib import Path

import pytest

from contracts import limits as contract
from tests.integration.cli.house import NOBODY, House
from tests.integration.quota_stand_in import QuotaStandIn

pytestmark = pytest.mark.anyio

EXAMPLE = Path("docs/accounts.yaml")


async def test_the_example_file_is_applied_once_and_then_changes_nothing(house: House) -> None:
    dry = await house("apply", "-f", str(EXAMPLE), "--dry-run")
    before = len(house.commands)
    first = await house("apply", "-f", str(EXAMPLE))
    asked = house.commands[before:]
    second = await house("apply", "-f", str(EXAMPLE))
    as_json = await house("apply", "-f", str(EXAMPLE), "--json")

    changes = first.out.splitlines()[:-1]
    assert dry.out.splitlines()[:-1] == [f"would {change}" for change in changes]
    assert changes[:3] == ["make plan trial", "make plan pro", "open account newcomer"]
    assert changes[-2:] == ["open account on-hold", "suspend on-hold"]
    assert first.out.endswith(f"{len(changes)} changes made.\n")
    made = [command for command in asked if isinstance(command, contract.Authored)]
    assert {(command.actor, command.reason) for command in made} <= {("cli", "applied")}
    assert second.out == "All is as the file says: nothing was changed.\n"
    assert as_json.lines == [{"changes": 0, "dry_run": False}]
    regular = await house.one("limits", "show", "regular")
    assert regular["own"]["spend_limit_wei"] == "90071992547409930001"
    assert (await house.one("accounts", "show", "on-hold"))["status"] == "suspended"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("accounts: [{account_id: bad-1, limits: {sesions_max: 1}}]", "accounts.0.limits.sesions_max"),
        ("accounts: [{account_id: bad-1}, {account_id: bad-1}]", "account bad-1 is there twice"),
        ("accounts: [{account_id: bad-1, plan: no-such-plan}]", "bad-1: there is no plan no-such-plan"),
        (f"accounts: [{{account_id: bad-1, payer: {NOBODY}}}]", "is none of our payers"),
        ("accounts: [{account_id: bad-1, time_zone: Mars/Olympus}]", "no time zone of IANA"),
        ("accounts: [{account_id: bad-1, keys: {k3yIdOf12Ltr: {}}}]", "there is no key k3yIdOf12Ltr"),
        ("accounts:\n- account_id: bad-1\n  account_id: bad-2", "'account_id' is there twice"),
        ("accounts: [}", "expected"),
        ("- a list", "valid dictionary"),
    ],
)
async def test_nothing_is_done_for_a_file_that_cannot_be_as_a_whole(
    house: House, directory: Path, text: str, problem: str
) -> None:
    file = directory / "accounts.yaml"
    file.write_text(f"plans: [{{name: of-a-bad-file}}]\n{text}" if text.startswith("accounts") else text)

    told = await house("apply", "-f", str(file), status=1)

    assert problem in told.err
    assert len(told.err.splitlines()) == 1
    assert told.out == ""
    assert "of-a-bad-file" not in (await house("plan", "list")).out
    assert not any(account["account_id"] == "bad-1" for account in await house.json("accounts", "list"))


async def test_a_grant_that_was_given_is_not_changed_by_a_file(house: House, directory: Path) -> None:
    file = directory / "accounts.yaml"
    text = "accounts: [{account_id: given, credit: [{grant_id: g-1, amount_micro_usd: %s}]}]"
    file.write_text(text % 5)
    await house("apply", "-f", str(file))
    file.write_text(text % 6)

    told = await house("apply", "-f", str(file), status=1)

    assert "given: grant g-1 is another one; a grant is never changed" in told.err


async def test_an_apply_that_was_cut_off_is_gone_on_with(
    house: House, stand_in: QuotaStandIn, directory: Path
) -> None:
    """Quota goes away in its middle; what was done stays done, and is not done again."""
    file = directory / "accounts.yaml"
    file.write_text("accounts: [{account_id: cut-off, time_zone: Asia/Tokyo, limits: {sessions_max: 1}}]")
    stand_in.silent_for = contract.SetLimits

    told = await house("apply", "-f", str(file), status=2, CLEARINGHOUSE_TIMEOUT_SECONDS="1")
    stand_in.silent_for = None
    rest = await house("apply", "-f", str(file))

    assert told.out == "open account cut-off\nset the time zone of cut-off\n"
    assert told.err.startswith("could not: set limits of cut-off: cmd.quota.set_limits.v1")
    assert told.err.endswith("2 of 3 changes were made\n")
    assert rest.out == "set limits of cut-off\n1 changes made.\n"
