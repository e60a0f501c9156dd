"""A key that is used from elsewhere: what its owner is told, and that it is held until somebody says so."""

import asyncio
import json
import os
import sys
from typing import Any

import pytest

from tests.acceptance.checks import settled
from tests.acceptance.system import OPTIONS, Account, Answer, System, until
from tests.acceptance.wire import SIGNER, Paid, Payer, request
from tilt import demo

pytestmark = pytest.mark.anyio

HOME, OFFICE, THIEF = "198.51.100.7", "198.51.100.200", "203.0.113.9"
HOME_NETWORK, THIEFS_NETWORK = "198.51.100.0/24", "203.0.113.0/24"
SECONDS = 30


async def pay_from(system: System, account: Account, address: str, body: bytes) -> Answer:
    headers = {**account.headers, "Content-Type": "application/json", "X-Forwarded-For": address}
    return await system.send("POST", SIGNER, data=body, headers=headers)


async def activity(system: System, account: Account) -> dict[str, Any]:
    read = await system.call("GET", f"/v1/keys/{account.key_id}/activity", key=account.api_key)
    assert read.status == 200, read
    found: dict[str, Any] = read.json
    return found


async def learned_key(system: System, **alarms: Any) -> tuple[Account, Payer, Any, Paid]:
    """A key that has paid once from home, and is known for so long that what is new is an alarm."""
    account = await system.open_account()
    path = f"/v1/accounts/{account.account_id}/keys/{account.key_id}/limits"
    assert (await system.call("PUT", path, body={"alarms": alarms})).status == 200
    payer = Payer(system, account)
    challenge = await payer.challenge()
    paid = Paid.read(await pay_from(system, account, HOME, request(challenge)))
    await settled(system, account)

    async def told() -> bool:
        found = await activity(system, account)
        return bool(found["recipients"]) and HOME_NETWORK in {row["network"] for row in found["networks"]}

    await until("quota heard of network and recipient", told, seconds=SECONDS)
    await asyncio.sleep(OPTIONS.alarm_learning_seconds)
    return account, payer, challenge, paid


async def test_a_key_that_is_used_from_elsewhere_is_held_until_it_is_lifted(system: System) -> None:
    account, payer, challenge, paid = await learned_key(system, holds=["network"])
    body = request(challenge, paid.state)

    quiet = await pay_from(system, account, OFFICE, body)
    before = (await activity(system, account))["alarms"]
    taken = await pay_from(system, account, THIEF, request(await payer.challenge()))
    [alarm] = await until_alarmed(system, account)

    async def refused() -> bool:
        return (await pay_from(system, account, HOME, body)).status == 403

    await until("the key is stopped on the signer", refused, seconds=SECONDS)
    stop = (await activity(system, account))["stop"]
    lifted = {"stops": [{"what": "key", "value": account.key_id}], "reason": "it_was_me"}
    assert (await system.call("POST", "/v1/stops/lift", body=lifted)).status == 204

    async def served() -> bool:
        return (await pay_from(system, account, HOME, body)).status == 200

    await until("the signer serves again", served, seconds=SECONDS)
    again = await pay_from(system, account, THIEF, request(await payer.challenge()))
    after = await activity(system, account)

    assert (before, quiet.status, taken.status, again.status) == ([], 200, 200, 200)
    assert (alarm["alarm"], alarm["value"], alarm["held"]) == ("network", THIEFS_NETWORK, True)
    assert stop["reason"] == "alarm_network"
    assert (after["alarms"], after["stop"]) == ([alarm], None)


async def test_by_default_alarms_are_told_and_stop_nothing(system: System) -> None:
    account, payer, challenge, paid = await learned_key(system)

    await pay_from(system, account, THIEF, request(challenge, paid.state))
    [alarm] = await until_alarmed(system, account)
    again = await payer.ask(request(await payer.challenge()))
    told = await command(system, account, "keys", "activity", account.account_id, account.key_id, "--json")
    found = json.loads(told)

    assert (alarm["alarm"], alarm["value"], alarm["held"]) == ("network", THIEFS_NETWORK, False)
    assert again.status == 200
    assert {**found, "kind": None} == {**await activity(system, account), "kind": None}
    assert found["stop"] is None


async def until_alarmed(system: System, account: Account) -> list[dict[str, Any]]:
    async def alarmed() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await activity(system, account))["alarms"]
        return found

    return await until("an alarm is raised", alarmed, seconds=SECONDS)


async def command(system: System, account: Account, *words: str) -> str:
    """What `clearinghouse` says, with what `make run` tells a shell."""
    customer = demo.Customer(account.account_id, account.key_id, account.api_key, account.sdk_token)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.cli",
        *words,
        env={**os.environ, **demo.environment(system.world, customer)},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()
