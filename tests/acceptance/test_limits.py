"""Limits as customers meet them: what each answers, and what the official SDK makes of it."""

import asyncio
import time
from typing import Any

import pytest

from tests.acceptance.checks import settled
from tests.acceptance.sdk import APP, PAYMENT_SECONDS, streaming
from tests.acceptance.system import OPTIONS, Account, Answer, System, until
from tests.acceptance.wire import Payer, request

pytestmark = pytest.mark.anyio

TICKET = OPTIONS.ticket_ev_wei
FIRST_BATCH = 10  # tickets, for the seconds ahead
MICRO_USD_PER_TICKET = TICKET * OPTIONS.usd_per_eth // 10**12


async def limit(system: System, account: Account, scope: str = "", **limits: Any) -> None:
    """Set limits of an account, or of `users/…` or `keys/…`; and wait until signers know them."""
    path = f"/v1/accounts/{account.account_id}/{scope}limits"
    answer = await system.call("PUT", path, body={"reason": "test", **limits})
    assert answer.status == 200, answer
    await asyncio.sleep(1)


async def first_payment(system: System, account: Account, **changes: Any) -> Answer:
    payer = Payer(system, account)
    return await payer.ask(request(await payer.challenge(), **changes))


async def test_an_hour_that_is_used_up_ends_the_stream_for_good(system: System) -> None:
    account = await system.open_account()
    await limit(system, account, spend_per_hour_wei=str(13 * TICKET))

    async with streaming(system, account) as stream:
        await asyncio.wait([stream.funding], timeout=8 * PAYMENT_SECONDS)

        assert stream.funding.done()  # 402: there is no use in asking again
    totals = await settled(system, account)
    refused = await first_payment(system, account)
    [row] = [row for row in (await system.limits(account))["limits"] if row["name"] == "spend_per_hour_wei"]

    assert FIRST_BATCH <= totals.tickets <= 13
    assert refused.status == 402
    assert b"spend limit reached" in refused.body
    assert int(row["used"]) == totals.cost
    assert row["resets_at"].endswith(":00:00Z")


async def test_dollars_hold_at_the_rate_of_the_house(system: System) -> None:
    account = await system.open_account()
    await limit(system, account, spend_per_day_micro_usd=FIRST_BATCH * MICRO_USD_PER_TICKET + 1)

    paid = await first_payment(system, account)
    await settled(system, account)
    refused = await first_payment(system, account)

    assert (paid.status, refused.status) == (200, 402)
    assert b"micro-USD spent" in refused.body


async def test_prepaid_credit_is_spent_and_no_more(system: System) -> None:
    account = await system.open_account()
    await limit(system, account, credit_limit_micro_usd=0)
    without = await first_payment(system, account)
    body = {"grant_id": "first", "credit": "prepaid", "amount_micro_usd": 11 * MICRO_USD_PER_TICKET}
    for _ in range(2):  # a repeat is the same grant
        granted = await system.call("POST", f"/v1/accounts/{account.account_id}/credit", body=body)
        assert granted.status in {200, 201}, granted

    paid = await first_payment(system, account)
    await settled(system, account)
    after = await first_payment(system, account)

    assert (without.status, paid.status, after.status) == (402, 200, 402)
    assert b"credit exhausted" in without.body
    left = (await system.call("GET", f"/v1/accounts/{account.account_id}/credit")).json
    assert left["prepaid_micro_usd"] == MICRO_USD_PER_TICKET - 1  # a batch costs a wei more: rounded down


async def test_no_more_sessions_run_than_may(system: System) -> None:
    account = await system.open_account()
    await limit(system, account, sessions_max=1)

    async with streaming(system, account):
        second = await first_payment(system, account)

        assert second.status == 429
        assert int(second.headers["Retry-After"]) > 0

    async def may_start() -> bool:
        return (await first_payment(system, account)).status == 200

    await until("the place is free", may_start, seconds=OPTIONS.idle_seconds + 15)


async def test_a_keys_limit_is_its_own(system: System) -> None:
    account = await system.open_account()
    other = await system.issue_key(account.account_id)
    await limit(system, account, f"keys/{account.key_id}/", spend_limit_wei=str((FIRST_BATCH + 1) * TICKET))

    paid = await first_payment(system, account)
    await settled(system, account)
    refused = await first_payment(system, account)

    assert (paid.status, refused.status) == (200, 402)
    assert (await first_payment(system, other)).status == 200


@pytest.mark.parametrize(
    ("limits", "status", "text"),
    [
        ({"job_types": ["lv2v"]}, 403, "job type"),
        ({"apps": ["another/app"]}, 403, "app"),
        ({"recipients": ["0x" + "12" * 20]}, 403, "recipient"),
        ({"prices_max": {"live": "1"}}, 481, "price"),
        ({"ticket_ev_max_wei": "1"}, 400, "EV"),
        ({"ticket_face_value_max_wei": "1"}, 400, "faceValue"),
        ({"networks": ["203.0.113.0/24"]}, 403, "may not be used from"),
        ({"expires_at": "2026-01-01T00:00:00Z"}, 401, "expired"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
async def test_what_a_key_may_not_do_is_refused_before_anything_is_signed(
    system: System, limits: dict[str, Any], status: int, text: str
) -> None:
    account = await system.open_account()
    payer = Payer(system, account)
    challenge = await payer.challenge()
    await limit(system, account, f"keys/{account.key_id}/", **limits)

    refused = await payer.ask(request(challenge))

    assert (refused.status, text in refused.body.decode()) == (status, True), refused.body
    assert await system.sessions(account) == []


async def test_more_payments_a_second_than_may_wait(system: System) -> None:
    account = await system.open_account()
    await limit(system, account, payments_per_second=2)
    payer = Payer(system, account)
    challenges = [await payer.challenge() for _ in range(8)]

    answers = await asyncio.gather(*(payer.ask(request(challenge)) for challenge in challenges))
    refused = [answer for answer in answers if answer.status == 429]

    async def waited() -> bool:
        return (await payer.ask(request(challenges[-1]))).status == 200

    assert {answer.status for answer in answers} == {200, 429}
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
    await until("there is room again", waited, seconds=10)


async def test_a_plan_limits_all_who_are_on_it(system: System) -> None:
    account = await system.open_account()
    plan = {"limits": {"spend_per_day_wei": str(5 * TICKET)}, "rank": 3, "reason": "test"}
    assert (await system.call("PUT", "/v1/plans/small", body=plan)).status == 200
    path = f"/v1/accounts/{account.account_id}/plan"
    assert (await system.call("PUT", path, body={"plan": "small", "reason": "test"})).status == 200

    refused = await first_payment(system, account)

    assert refused.status == 402
    assert (await system.limits(account))["plan"] == "small"


async def test_a_stop_reaches_the_signer_within_a_second(system: System) -> None:
    """How long it took is printed; the SDK stops for good on 403."""
    account, bystander = await system.open_account(), await system.open_account()
    payer = Payer(system, account)
    challenge = await payer.challenge()
    paid = await payer.pay(challenge)
    stop = {"stops": [{"what": "account", "value": account.account_id}], "reason": "test"}

    began = time.monotonic()
    assert (await system.call("POST", "/v1/stops", body=stop)).status == 200

    async def refused() -> bool:
        return (await payer.ask(request(challenge, paid.state))).status == 403

    await until("the signer refuses", refused, seconds=10)
    print(f"stopped after {(time.monotonic() - began) * 1000:.0f} ms")  # noqa: T201
    others = await first_payment(system, bystander)
    assert (await system.call("POST", "/v1/stops/lift", body=stop)).status == 204

    async def served() -> bool:
        return (await payer.ask(request(challenge, paid.state))).status == 200

    assert others.status == 200
    await until("the signer serves again", served, seconds=10)
    await settled(system, account)


async def test_who_changed_what_is_told(system: System) -> None:
    account = await system.open_account()
    await limit(system, account, streams_max=1)
    await system.suspend(account)

    rows = (await system.call("GET", f"/v1/audit?account_id={account.account_id}")).json["rows"]

    actions = [row["action"] for row in rows]
    assert {"account_opened", "limits_set", "account_suspended", "api_key_issued"} <= set(actions)
    assert all(row["actor"].startswith("admin:") for row in rows)
    assert [row["at"] for row in rows] == sorted((row["at"] for row in rows), reverse=True)


async def test_a_proxy_begins_no_more_streams_than_may_run(system: System) -> None:
    account = await system.open_account()
    await limit(system, account, streams_max=1)

    first = await system.call("POST", "/v1/streams", key=account.api_key, body={"stream_id": "a", "app": APP})
    second = await system.call("POST", "/v1/streams", key=account.api_key, body={"stream_id": "b"})
    ended = await system.call("POST", "/v1/streams/a/end", key=account.api_key)
    third = await system.call("POST", "/v1/streams", key=account.api_key, body={"stream_id": "b"})

    assert (first.status, second.status, ended.status, third.status) == (201, 429, 200, 201)
    assert second.json["code"] == "too_many_streams"
    assert second.json["limits"][-1]["name"] == "streams_max"
    assert int(second.headers["Retry-After"]) > 0
