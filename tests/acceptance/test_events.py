"""The log of the running system over HTTP: who reads what of it, and that nothing is passed over."""

import asyncio
import signal

import pytest

from tests.acceptance.checks import settled
from tests.acceptance.log_reading import PAYMENTS, SECONDS, ids, pay, payments_on_disk, read, read_all
from tests.acceptance.system import Answer, System, until
from tests.acceptance.traffic import traffic

pytestmark = pytest.mark.anyio


async def test_an_account_reads_its_own_and_an_administrator_the_same_of_it(system: System) -> None:
    account, other = await pay(system, 2), await pay(system)
    totals = await settled(system, account)

    own = await read_all(system, key=account.api_key)
    as_administrator = await read_all(system, account=account.account_id)
    everything = await read_all(system, types=PAYMENTS)

    signed = [event for event in own if event["type"] == "PaymentSigned"]
    assert {event["account_id"] for event in own} == {account.account_id}
    assert {"AccountOpened", "ApiKeyIssued", "SessionOpened", "PaymentSigned"} <= {
        event["type"] for event in own
    }
    assert (len(signed), sum(int(event["data"]["cost"]) for event in signed)) == (2, totals.cost)
    assert {event["correlation"] for event in signed} == {
        row["session_id"] for row in await system.sessions(account)
    }
    # What is idle closes meanwhile.
    assert set(ids(own)) <= set(ids(as_administrator))
    assert {account.account_id, other.account_id} <= {event["account_id"] for event in everything}


async def test_a_user_and_a_foreign_account_read_nothing(system: System) -> None:
    account, other = await pay(system), await system.open_account()
    issued = await system.call("POST", f"/v1/accounts/{account.account_id}/keys", body={"user_id": "ann"})

    users = await read(system, key=issued.json["api_key"])
    foreign = await read(system, key=other.api_key, account=account.account_id)

    assert (users.status, foreign.status) == (403, 404)


async def test_usage_says_which_payments_it_covers(system: System) -> None:
    account = await pay(system)
    await settled(system, account)
    [signed] = await read_all(system, key=account.api_key, types=PAYMENTS)

    usage = await read_all(system, types=["UsageRecorded"])

    assert [
        event
        for event in usage
        if event["data"]["from_position"] <= signed["position"] <= event["data"]["to_position"]
        and event["causation"] == f"signer:{signed['epoch']}:{event['data']['to_position']}"
    ]


async def test_whoever_waits_hears_of_a_payment_as_it_is_made(system: System) -> None:
    account = await system.open_account()
    now = (await read(system, key=account.api_key, after="now")).json
    assert now["events"] == []

    waiting = asyncio.create_task(
        read(system, key=account.api_key, after=now["next"], types=PAYMENTS, wait=5)
    )
    await pay(system, account=account)

    assert [event["type"] for event in (await waiting).json["events"]] == PAYMENTS


async def test_whoever_waits_is_answered_when_the_edge_is_told_to_stop(system: System) -> None:
    account = await system.open_account()
    now = (await read(system, key=account.api_key, after="now")).json["next"]

    async def stopped_while_one_waits() -> Answer:
        waiting = asyncio.create_task(read(system, key=account.api_key, after=now, types=PAYMENTS, wait=25))
        await asyncio.sleep(1)  # it has begun to wait
        stopped = system.signal("edge", signal.SIGTERM)
        answer = await waiting
        await system.until_restarted("edge", stopped)
        return answer

    answer = await stopped_while_one_waits()

    assert (answer.status, answer.json["events"], answer.json["at_end"]) == (200, [], True)
    again = await until(
        "the edge answers", lambda: read(system, key=account.api_key, after=now), seconds=SECONDS
    )
    assert again.status in {200, 503}


@pytest.mark.parametrize("victim", ["signer", "quota", "metering"])
async def test_nothing_is_passed_over_while_a_publisher_is_killed(system: System, victim: str) -> None:
    account = await system.open_account()
    async with traffic(system, account):
        reading = asyncio.create_task(read_all(system, types=PAYMENTS, limit=40))
        killed = system.kill(victim)
        during = await reading
        await system.until_restarted(victim, killed)
        following = asyncio.create_task(read_all(system, types=PAYMENTS, limit=40))
        again = system.kill(victim)
        await following
        await system.until_restarted(victim, again)
    await settled(system, account, seconds=30)
    on_disk = await payments_on_disk(system)

    at_last = [event["position"] for event in await read_all(system, types=PAYMENTS, limit=40)]

    assert at_last == on_disk
    assert [event["position"] for event in during] == on_disk[: len(during)]


async def test_as_cloud_events_payments_are_create_signed_tickets(system: System) -> None:
    account = await pay(system)
    await settled(system, account)

    answer = await read(system, key=account.api_key, types=PAYMENTS, format="cloudevents")

    [event] = answer.json
    assert answer.headers["Content-Type"] == "application/cloudevents-batch+json"
    assert answer.headers["Clearinghouse-At-End"] == "true"
    assert (event["type"], event["subject"]) == ("create_signed_ticket", f"{account.account_id}:")
    assert event["data"]["billable_secs"] == 10.0
    assert event["data"]["pipeline"] == "live"
    assert event["data"]["computed_fee"] == str(10 * system.world.options.price_per_unit)
