"""What the command says where a word makes no sense, or nobody answers."""

import asyncio
import json
import os
import sys

import pytest

from contracts import limits as contract
from tests.integration.cli.house import House
from tests.integration.quota_stand_in import QuotaStandIn

pytestmark = pytest.mark.anyio


async def test_a_service_that_is_away_is_told_and_not_waited_for(
    house: House, stand_in: QuotaStandIn, account: str
) -> None:
    await stand_in.leave()
    away = await house("limits", "show", account, status=2)
    audit = await house("audit", "--json", status=2)
    rest = await house.json("audit", "--service", "accounts", "--limit", "1")
    await stand_in.serve()

    assert away.err.startswith("could not: cmd.quota.read_limits.v1: NoRespondersError")
    assert json.loads(audit.err)["kind"] == "fault"
    assert audit.out == ""
    assert len(rest) == 1


@pytest.mark.parametrize("wrong", ["password", "port"])
async def test_a_bus_that_lets_nobody_in_is_told_without_the_password(house: House, wrong: str) -> None:
    right = house.nats.users["cli"].password
    url = house.nats.url("cli")
    url = url.replace(right, "wr0ng-pass") if wrong == "password" else url.rpartition(":")[0] + ":1"

    told = await house("pool", status=2, CLEARINGHOUSE_NATS_URL=url)

    assert told.err.startswith("could not: the bus does not let us in")
    assert "wr0ng-pass" not in told.err
    assert right not in told.err


async def test_the_command_is_a_process_that_says_what_it_misses() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.cli", "pool",
        env={"PATH": os.environ["PATH"]}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 60)

    assert (process.returncode, out) == (2, b"")
    assert err == b"could not: CLEARINGHOUSE_NATS_URL: Field required\n"


@pytest.mark.parametrize(
    "words",
    [
        ("limits", "set", "acme"),
        ("limits", "set", "acme", "--sessions-max", "many"),
        ("limits", "set", "acme", "--user", "ann", "--credit-limit-micro-usd", "5"),
        ("plan", "set", "pro", "--of", "users", "--credit-limit-micro-usd", "5"),
        ("tokens", "end", "acme", "a-token"),
        ("limits", "set", "acme", "--prices-max", "live"),
        ("limits", "set", "acme", "--expires-at", "tomorrow"),
        ("limits", "set", "acme", "--sessions-max", "1", "--actor", "a person"),
        ("limits", "show", "acme", "--user", "u", "--key", "k"),
        ("limits", "clear", "acme", "everything"),
        ("accounts", "suspend", "acme"),
        ("accounts", "suspend", "acme", "--reason", "They did not pay"),
        ("keys", "reissue", "acme"),
        ("keys", "reissue", "acme", "k3yIdOf12Ltr", "--all"),
        ("stops", "set", "everything", "acme"),
        ("stops", "set", "account"),
        ("stops", "set", "weather", "rain"),
        ("credit", "grant", "acme", "0"),
        ("plan", "set", "Not A Plan"),
        ("audit", "--service", "signer"),
    ],
)
async def test_what_cannot_be_meant_asks_nobody(house: House, words: tuple[str, ...]) -> None:
    before = len(house.commands)

    told = await house(*words, status=2)

    asked = house.commands[before:]
    assert "Error" in told.err
    assert not [command for command in asked if isinstance(command, contract.Authored)]
