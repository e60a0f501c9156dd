"""The hooks of gateways and signers that are not ours: who may start a stream, or be paid for."""

import json
from typing import Any

import pytest

from tests.acceptance.system import Account, Answer, System, until
from tests.acceptance.wire import foreign_state

pytestmark = pytest.mark.anyio

NANOSECONDS = 10**9


async def limit(system: System, account: Account, **limits: Any) -> None:
    path = f"/v1/accounts/{account.account_id}/limits"
    assert (await system.call("PUT", path, body={"reason": "test", **limits})).status == 200


async def hook(system: System, url: str, body: Any, **headers: str) -> Answer:
    shown = {"Content-Type": "application/json", **headers}
    return await system.send("POST", url, data=json.dumps(body).encode(), headers=shown)


async def test_a_gateway_is_told_which_streams_may_start(system: System) -> None:
    account = await system.open_account()
    await limit(system, account, streams_max=1)
    url = f"/auth/stream?key={account.api_key}"

    first = await hook(system, url, {"url": "rtmp://gateway/live/one?user=ann"})
    second = await hook(system, url, {"url": "rtmp://gateway/live/two?user=ann"})
    stream_id = first.json["manifestID"]
    await system.call("POST", f"/v1/streams/{stream_id}/end", key=account.api_key)
    third = await hook(system, url, {"url": "rtmp://gateway/live/two?user=ann"})

    assert (first.status, second.status, third.status) == (200, 429, 200)
    assert (await hook(system, "/auth/stream?key=nonsense", {"url": "rtmp://x/y"})).status == 401


async def test_a_signer_that_is_not_ours_is_told_whose_payment_may_go_out(system: System) -> None:
    account = await system.open_account()
    await limit(system, account, spend_limit_wei="4999")

    first = await _authorize(system, account, "one", sequence=0, balance="1500")
    repeat = await _authorize(system, account, "one", sequence=0, balance="1500")
    refused = await _authorize(system, account, "two", sequence=0, balance="1500")
    stranger = await _authorize(system, account, "one", sequence=1, balance="0", secret="another")

    assert first.json == {"status": 200, "expiry": 0, "auth_id": f"{account.account_id}:ann"}
    assert repeat.json["status"] == 200
    assert refused.json["status"] == 429  # what the first holds may still come back
    assert stranger.status == 401
    assert await system.held(account) == 2500

    async def is_spent() -> bool:
        found = await system.limits(account)
        return (found["held_wei"], found["spent_wei"]) == ("0", "2500")

    await until("what nobody corrected counts as spent", is_spent, seconds=30)
    await limit(system, account, spend_limit_wei="4000")
    spent = await _authorize(system, account, "two", sequence=0, balance="1500")
    assert spent.json["status"] == 483


async def _authorize(
    system: System, account: Account, state_id: str, *, sequence: int, balance: str, secret: str = ""
) -> Answer:
    headers = {"Authorization": [f"Bearer {account.api_key}"], "Clearinghouse-User": ["ann"]}
    state = foreign_state(state_id, sequence=sequence, balance=balance)
    shown = f"Bearer {secret or system.world.hook_secret}"
    return await hook(system, "/authorize", {"headers": headers, "state": state}, Authorization=shown)
