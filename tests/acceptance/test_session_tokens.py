"""Session tokens: an operator's backend hands its users short-lived ones, with limits of their own."""

from dataclasses import replace
from typing import Any

import pytest

from tests.acceptance.checks import settled
from tests.acceptance.sdk import streaming
from tests.acceptance.system import OPTIONS, Account, Answer, System, until
from tests.acceptance.wire import Payer, request

pytestmark = pytest.mark.anyio

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
FIRST_BATCH = 10


async def exchange(system: System, account: Account, **more: Any) -> Answer:
    body = {"grant_type": EXCHANGE, "user_id": "user-7", **more}
    return await system.call("POST", "/v1/tokens", key=account.api_key, body=body)


def holding(account: Account, issued: Answer) -> Account:
    """The account as whoever has but the token sees it."""
    assert issued.status == 200, issued
    return replace(account, api_key=issued.json["access_token"], sdk_token=issued.json["sdk_token"])


async def test_the_sdk_pays_with_a_token_and_its_user_is_booked(system: System) -> None:
    account = await system.open_account()
    holder = holding(account, await exchange(system, account))

    async with streaming(system, holder) as stream:
        await stream.until_paid_again(seconds=20)
    await settled(system, account)
    path = f"/v1/accounts/{account.account_id}/usage?group_by=user"
    rows = (await system.call("GET", path)).json["usage"]

    assert [row["group"] for row in rows] == [{"user": "user-7"}]


async def test_a_token_spends_no_more_than_its_own_limit(system: System) -> None:
    account = await system.open_account()
    limits = {"spend_limit_wei": str((FIRST_BATCH + 1) * OPTIONS.ticket_ev_wei)}
    holder = holding(account, await exchange(system, account, limits=limits))
    payer = Payer(system, holder)

    paid = await payer.ask(request(await payer.challenge()))
    await settled(system, account)
    refused = await payer.ask(request(await payer.challenge()))
    by_key = Payer(system, account)

    assert (paid.status, refused.status) == (200, 402)
    assert b"session token" in refused.body
    assert (await by_key.ask(request(await by_key.challenge()))).status == 200


async def test_a_token_may_do_no_more_than_it_says(system: System) -> None:
    account = await system.open_account()
    holder = holding(account, await exchange(system, account, limits={"job_types": ["lv2v"]}))
    payer = Payer(system, holder)

    refused = await payer.ask(request(await payer.challenge()))
    management = await system.call("GET", f"/v1/accounts/{account.account_id}/limits", key=holder.api_key)
    another = await exchange(system, holder)

    assert refused.status == 403
    assert management.status in {403, 404}
    assert another.status in {400, 403}


async def test_a_token_is_ended_before_its_time_and_no_other(system: System) -> None:
    account = await system.open_account()
    tokens = [await exchange(system, account) for _ in range(2)]
    payer, other = (Payer(system, holding(account, issued)) for issued in tokens)
    challenge = await payer.challenge()
    before = await payer.ask(request(challenge))

    path = f"/v1/accounts/{account.account_id}/tokens/{tokens[0].json['token_id']}"
    ended = await system.call("DELETE", path, key=account.api_key)

    async def refused() -> bool:
        return (await payer.ask(request(challenge))).status == 401

    assert (before.status, ended.status) == (200, 204)
    await until("the token is refused", refused, seconds=5)
    me = await system.call("GET", "/v1/me", key=tokens[0].json["access_token"])
    assert (me.status, me.json["code"]) == (401, "key_expired")
    assert (await other.ask(request(await other.challenge()))).status == 200
    [row] = (await system.call("GET", f"/v1/audit?account_id={account.account_id}&limit=1")).json["rows"]
    assert (row["action"], row["actor"]) == ("limits_set", f"key:{account.key_id}")


async def test_a_token_ends_with_its_key(system: System) -> None:
    account = await system.open_account()
    holder = holding(account, await exchange(system, account))
    payer = Payer(system, holder)
    challenge = await payer.challenge()
    before = await payer.ask(request(challenge))

    await system.revoke_key(account)

    async def refused() -> bool:
        return (await payer.ask(request(challenge))).status == 401

    assert before.status == 200
    await until("the token is refused", refused, seconds=5)
