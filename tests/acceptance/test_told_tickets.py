"""An installation with a signer of its own: it asks before each payment, and tells afterwards what it was."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.acceptance.system import Account, Answer, System, until
from tests.acceptance.wire import foreign_state
from tests.told_tickets import event, lines

pytestmark = pytest.mark.anyio

PATH = "/v1/usage/tickets"
FEES = (1_000, 999, 1_003)


async def authorize(system: System, account: Account, state_id: str, sequence: int) -> str:
    """As go-livepeer's signer asks; the `auth_id` that its event will carry."""
    headers = {"Authorization": [f"Bearer {account.api_key}"], "Clearinghouse-User": ["ann"]}
    state = foreign_state(state_id, sequence=sequence, balance="1500")
    body = json.dumps({"headers": headers, "state": state}).encode()
    answer = await send(system, "/authorize", body, "application/json")
    assert answer.json["status"] == 200
    return str(answer.json["auth_id"])


async def send(system: System, path: str, body: bytes, kind: str, key: str = "") -> Answer:
    shown = {"Authorization": f"Bearer {key or system.world.hook_secret}", "Content-Type": kind}
    return await system.send("POST", path, data=body, headers=shown)


async def tell(system: System, *events: dict[str, Any], key: str = "") -> list[str]:
    answer = await send(system, PATH, lines(*events), "application/x-ndjson", key)
    assert answer.status == 200, answer
    return [each["status"] for each in answer.json["events"]]


async def until_spent(system: System, account: Account, wei: int) -> None:
    async def is_spent() -> bool:
        found = await system.limits(account)
        return (found["held_wei"], found["spent_wei"]) == ("0", str(wei))

    await until(f"nothing is held and {wei} wei are spent", is_spent, seconds=40)


@pytest.mark.parametrize("settled_before", [False, True])
async def test_limits_and_usage_tell_the_same_in_the_end(system: System, settled_before: bool) -> None:  # noqa: FBT001 (a parameter of the test)
    account, state_id = await system.open_account(), f"state-{settled_before}"
    path = f"/v1/accounts/{account.account_id}"
    for sequence in range(len(FEES)):
        auth_id = await authorize(system, account, state_id, sequence)
    estimated = int((await system.limits(account))["held_wei"])
    if settled_before:
        await until_spent(system, account, estimated)
    told = [
        event(number, at=datetime.now(UTC), auth_id=auth_id, session_id=state_id, computed_fee=str(fee),
              pipeline="live", billable_secs=9.5, pixels=0)
        for number, fee in enumerate(FEES)
    ]  # fmt: skip

    first = await tell(system, told[2], told[0])
    second = await tell(system, *told, event(9, type="create_new_payment"))

    assert auth_id == f"{account.account_id}:ann"
    assert estimated >= 2500
    assert first == ["recorded", "recorded"]
    assert second == ["repeated", "recorded", "repeated", "ignored"]
    await until_spent(system, account, sum(FEES))
    totals = await system.usage(account)
    assert (totals.payments, totals.tickets, totals.cost) == (3, 6, sum(FEES))
    by_user = (await system.call("GET", f"{path}/usage?group_by=user&group_by=job_type")).json["usage"]
    assert [(row["group"], row["fee_wei"]) for row in by_user] == [
        ({"user": "ann", "job_type": "live"}, str(sum(FEES)))
    ]
    seconds = (await system.call("GET", f"{path}/usage?meter=billable_seconds")).json["usage"]
    assert [row["value"] for row in seconds] == ["30.000"]
    [session] = await system.sessions(account)
    assert (session["session_id"], session["payments"]) == (f"go-livepeer:{state_id}", 3)


async def test_what_nobody_asked_for_counts_and_stops_what_comes_after(system: System) -> None:
    account = await system.open_account(spend_limit_wei=3_000)
    told = event(at=datetime.now(UTC), auth_id="", session_id="unasked", computed_fee="2999")

    assert await tell(system, told, key=account.api_key) == ["recorded"]
    await until_spent(system, account, 2_999)

    headers = {"Authorization": [f"Bearer {account.api_key}"]}
    body = {"headers": headers, "state": foreign_state("next", sequence=0, balance="1500")}
    refused = await send(system, "/authorize", json.dumps(body).encode(), "application/json")
    assert refused.json["status"] == 483


async def test_a_key_tells_of_its_own_account_only(system: System) -> None:
    mine, other = await system.open_account(), await system.open_account()
    now = datetime.now(UTC)
    told = event(at=now, auth_id=f"{other.account_id}:ann", session_id=mine.account_id)
    nobodys = event(at=now, auth_id="nobody-at-all:ann", session_id=mine.account_id)

    assert await tell(system, told, key=mine.api_key) == ["refused"]
    assert await tell(system, nobodys) == ["refused"]
    assert await tell(system, told) == ["recorded"]
    assert (await system.usage(mine)).payments == 0
