"""An account moves to another payer while a stream of its old key runs: both are paid, each by its own."""

import pytest

from tests.acceptance.checks import settled
from tests.acceptance.sdk import streaming
from tests.acceptance.system import Account, System

pytestmark = pytest.mark.anyio


async def test_a_new_key_pays_by_the_new_payer_while_the_old_one_keeps_its_own(system: System) -> None:
    old_payer, new_payer = system.world.payers
    first = await system.open_account()
    async with streaming(system, first) as old:
        second = await system.rotate_payer(first, new_payer)
        async with streaming(system, second) as new:
            old_tickets = await old.until_paid_again(seconds=20)
            new_tickets = await new.until_paid_again(seconds=20)

    assert {await sender(system, tickets) for tickets in (old_tickets, new_tickets)} == {old_payer, new_payer}
    assert await sender(system, old_tickets) == old_payer
    assert not await system.rejected(old.manifest_id) | await system.rejected(new.manifest_id)
    # Two payers, one account: its limit and its usage are over both, delivered or not.
    accepted = await system.accepted(old.manifest_id) | await system.accepted(new.manifest_id)
    assert (await settled(system, first)).tickets >= len(accepted)


async def test_each_keys_address_is_its_own_payers(system: System) -> None:
    first = await system.open_account()
    second = await system.rotate_payer(first, system.world.payers[1])

    shown = [await address(system, account) for account in (first, second, first)]

    assert [one.lower() for one in shown] == [*system.world.payers, system.world.payers[0]]


async def test_a_payer_we_do_not_have_cannot_be_set(system: System) -> None:
    account = await system.open_account()
    path = f"/v1/accounts/{account.account_id}/payer"

    unknown = await system.call("PUT", path, body={"payer": "0x" + "ab" * 20})
    malformed = await system.call("PUT", path, body={"payer": "0x12"})

    assert (unknown.status, unknown.json["code"]) == (422, "unknown_payer")
    assert (malformed.status, malformed.json["errors"][0]["field"]) == (422, "body.payer")


async def address(system: System, account: Account) -> str:
    answer = await system.send("POST", "/sign-orchestrator-info", data=b"{}", headers=account.headers)
    return str(answer.json["address"])


async def sender(system: System, tickets: set[tuple[str, int]]) -> str:
    """Who signed these tickets, says the orchestrator."""
    status = await system.orchestrator()
    rand_hashes = {"0x" + rand_hash for rand_hash, _ in tickets}
    [found] = {
        ticket["sender"] for ticket in status["accepted"] if ticket["recipient_rand_hash"] in rand_hashes
    }
    return str(found).lower()
