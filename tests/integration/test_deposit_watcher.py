"""The deposit watcher as a process, on the local chain with the real TicketBroker."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from web3 import Web3

from contracts.deposit_watcher import FundsObserved, RoundChanged, TicketRedeemed
from contracts.message import LogEntry
from contracts.streams import stream_of
from tests import infra
from tests.beside import until
from tests.integration import watcher_world
from tests.integration.local_node import ETHER, RECIPIENT_RAND
from tests.integration.watcher_world import (
    STRANGER,
    World,
    eventually,
    watched_chain,
)
from tilt.chain.accounts import rpc
from tilt.slot import Slot

pytestmark = pytest.mark.anyio

NATS_USERS = watcher_world.NATS_USERS
BLOCKS_TO_FINALITY = 64


@pytest.fixture
async def world(
    database: Callable[..., infra.Database], nats: infra.Nats, slot: Slot, directory: Path
) -> AsyncIterator[World]:
    async with watched_chain(database("deposit_watcher"), nats, slot, directory) as made:
        yield made


def _payers(told: Iterable[FundsObserved]) -> set[str]:
    return {event.payer for event in told}


async def test_the_first_observation_is_told_and_in_the_bucket(world: World) -> None:
    head, (number, block_hash) = world.head(), world.chain.current_round()

    assert (head.chain_id, head.round) == (42161, number)
    assert head.round_hash == "0x" + block_hash.hex()
    assert head.previous_round_hash == "0x" + "00" * 32
    assert head.l1_block == world.chain.web3.eth.block_number
    assert abs(head.observed_at_ms - time.time() * 1000) < 5000
    funds = world.funds()
    assert (funds.payer, funds.deposit, funds.reserve, funds.withdraw_round) == (
        world.payer,
        3 * ETHER + 1,
        200 * ETHER + 7,
        0,
    )
    assert (world.funds(STRANGER).deposit, world.funds(STRANGER).reserve) == (0, 0)
    observed = await eventually(lambda: world.told(FundsObserved), lambda told: len(told) == 3)
    assert {event.payer: event.deposit for event in observed} == {
        world.payer: 3 * ETHER + 1,
        world.second: 3 * ETHER + 1,
        STRANGER: 0,
    }
    assert {event.pool_size for event in observed} == {100}
    told = await eventually(lambda: world.told(RoundChanged), bool)
    assert told == [RoundChanged(round=number, round_hash=head.round_hash, ticket_validity_rounds=2)]


async def test_funding_unlocking_and_a_new_round_are_told(world: World) -> None:
    world.chain.fund(world.plan.payer_key, deposit_wei=5, reserve_wei=7)
    world.chain.mine(BLOCKS_TO_FINALITY)
    await until(lambda: (world.funds().deposit, world.funds().reserve) == (3 * ETHER + 6, 200 * ETHER + 14))
    world.chain.unlock(world.plan.payer_key)
    first = world.chain.current_round()
    await until(lambda: world.funds().withdraw_round == first.number + 2)
    second = world.chain.initialize_next_round()
    await until(lambda: world.head().round == second.number)

    assert world.head().round_hash == "0x" + second.block_hash.hex()
    assert world.head().previous_round_hash == "0x" + first.block_hash.hex()
    funds = await eventually(
        lambda: world.told(FundsObserved), lambda told: told[-1].withdraw_round == first.number + 2
    )
    of_payer = [(event.deposit, event.withdraw_round) for event in funds if event.payer == world.payer]
    assert list(dict.fromkeys(of_payer)) == [
        (3 * ETHER + 1, 0),
        (3 * ETHER + 6, 0),
        (3 * ETHER + 6, first.number + 2),
    ]
    rounds = await eventually(lambda: world.told(RoundChanged), lambda told: len(told) == 2)
    assert [event.round for event in rounds] == [first.number, second.number]


async def test_a_deposit_that_a_reorg_takes_back_never_counted(world: World) -> None:
    before = world.funds()
    world.chain.fund(world.plan.payer_key, deposit_wei=5 * ETHER, reserve_wei=7 * ETHER)
    world.chain.mine(BLOCKS_TO_FINALITY // 2)
    funded = world.chain.web3.eth.block_number
    await until(lambda: world.head().l1_block >= funded)
    in_sight = (world.chain.sender_info(world.plan.payer).deposit, world.funds().deposit)

    rpc(world.chain.web3, "anvil_reorg", BLOCKS_TO_FINALITY // 2 + 1, [])
    world.chain.mine(2 * BLOCKS_TO_FINALITY)
    final = world.chain.web3.eth.block_number
    await until(lambda: world.head().l1_block >= final)

    assert in_sight == (before.deposit + 5 * ETHER, before.deposit)
    assert world.chain.sender_info(world.plan.payer).deposit == before.deposit
    told = [event for event in await world.told(FundsObserved) if event.payer == world.payer]
    assert {(event.deposit, event.reserve) for event in told} == {(before.deposit, before.reserve)}
    assert (world.funds().deposit, world.funds().reserve) == (before.deposit, before.reserve)


async def test_redeemed_tickets_are_told_with_what_was_paid(world: World) -> None:
    whole, partly = world.redeem(ETHER + 3), world.redeem(9 * ETHER)

    first, second = await eventually(lambda: world.told(TicketRedeemed), lambda told: len(told) == 2)

    assert (first.tx_hash, first.face_value, first.paid) == (whole, ETHER + 3, ETHER + 3)
    # What the deposit had left, and a hundredth of the reserve.
    assert (second.tx_hash, second.paid) == (partly, 2 * ETHER - 2 + 2 * ETHER)
    assert (first.payer, first.recipient) == (world.payer, world.plan.orchestrator.lower())
    assert first.recipient_rand_hash == "0x" + Web3.keccak(RECIPIENT_RAND.to_bytes(32, "big")).hex()
    assert (first.sender_nonce, int(first.win_prob, 16)) == (1, 2**256 - 1)
    block: Any = world.chain.web3.eth.get_block(first.block)
    assert first.block_hash == "0x" + bytes(block["hash"]).hex()
    await until(lambda: world.funds().deposit == 0)


async def test_each_of_two_payers_is_watched_by_itself(world: World) -> None:
    untouched = world.funds(world.second)
    world.chain.fund(world.plan.payer_key, deposit_wei=5, reserve_wei=7)
    world.chain.mine(BLOCKS_TO_FINALITY)
    await until(lambda: world.funds().deposit == 3 * ETHER + 6)
    assert (world.funds(world.second).deposit, world.funds(world.second).reserve) == (
        untouched.deposit,
        untouched.reserve,
    )

    world.chain.unlock(world.second_key)
    await until(lambda: world.funds(world.second).withdraw_round > 0)
    world.chain.cancel_unlock(world.second_key)
    world.chain.mine(BLOCKS_TO_FINALITY)
    await until(lambda: world.funds(world.second).withdraw_round == 0)

    async def unlocks(payer: str) -> list[bool]:
        told = [event.withdraw_round > 0 for event in await world.told(FundsObserved) if event.payer == payer]
        return [unlocking for unlocking, _ in groupby(told)]

    assert await eventually(lambda: unlocks(world.second), lambda found: len(found) == 3) == [
        False,
        True,
        False,
    ]
    assert await unlocks(world.payer) == [False]


async def test_redemptions_of_two_payers_are_told_each_with_its_own(world: World) -> None:
    world.redeem(ETHER)
    world.redeem(2 * ETHER, payer_key=world.second_key)
    world.redeem(9 * ETHER, payer_key=world.second_key)
    world.redeem(ETHER // 2)

    told = await eventually(lambda: world.told(TicketRedeemed), lambda told: len(told) == 4)

    assert [event.payer for event in told] == [world.payer, world.second, world.second, world.payer]
    # The second's deposit pays its second winner in part, and a hundredth of its reserve.
    assert [event.paid for event in told] == [ETHER, 2 * ETHER, ETHER + 1 + 2 * ETHER, ETHER // 2]
    await until(lambda: world.funds(world.second).deposit == 0)
    assert world.funds().deposit == 3 * ETHER + 1 - ETHER - ETHER // 2


async def test_a_payer_added_later_is_watched_from_then_on(world: World) -> None:
    added = "0x" + "dc" * 20
    await world.end(world.pid)
    world.settings["PAYERS"] += f",{added}"

    await world.start()
    told = await eventually(lambda: world.told(FundsObserved), lambda told: added in _payers(told))

    assert _payers(told) == {world.payer, world.second, STRANGER, added}
    await until(lambda: world.bucket.ready and world.bucket.get(f"payer.{added}") is not None)
    assert world.funds().deposit == 3 * ETHER + 1


async def test_a_restart_resumes_and_tells_nothing_twice(world: World) -> None:
    world.redeem(ETHER)
    await eventually(lambda: world.told(TicketRedeemed), lambda told: len(told) == 1)
    world.redeem(ETHER // 2)
    await world.end(world.pid)
    world.redeem(ETHER // 3)
    world.chain.mine(30)
    await world.start()

    told = await eventually(lambda: world.told(TicketRedeemed), lambda told: len(told) == 3)
    await asyncio.sleep(0.5)

    assert [event.sender_nonce for event in told] == [1, 2, 3]
    assert await world.told(TicketRedeemed) == told
    assert len(await world.told(RoundChanged)) == 1


async def test_while_the_rpc_is_away_the_bucket_keeps_what_was_seen(world: World) -> None:
    world.node.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(1.5)
    kept = world.head()
    await asyncio.sleep(1)
    assert world.bucket.ready
    assert world.head() == kept
    world.node.process.send_signal(signal.SIGCONT)
    await until(lambda: world.head().observed_at_ms > kept.observed_at_ms)

    world.node.stop()
    kept = world.head()
    await asyncio.sleep(1)
    assert world.head().observed_at_ms <= kept.observed_at_ms + 200
    world.node.start()
    await until(lambda: world.head().observed_at_ms > kept.observed_at_ms + 1000)
    world.redeem(ETHER)
    assert await eventually(lambda: world.told(TicketRedeemed), bool)


async def test_a_new_process_waits_for_the_old_one_and_takes_over(world: World) -> None:
    await world.start()
    epoch = world.head().observed_at_ms
    await until(lambda: world.head().observed_at_ms > epoch)

    await world.end(world.pid)

    kept = world.head().observed_at_ms
    await until(lambda: world.head().observed_at_ms > kept + 1000)
    world.redeem(ETHER)
    assert await eventually(lambda: world.told(TicketRedeemed), bool)


async def test_the_log_is_published_as_it_is_read(world: World) -> None:
    world.redeem(ETHER)
    await eventually(lambda: world.told(TicketRedeemed), bool)
    entries = await world.log()
    jetstream, stream = world.admin.jetstream(), stream_of("deposit_watcher")

    async def published() -> int:
        return (await jetstream.stream_info(stream)).state.messages

    await eventually(published, lambda messages: messages >= len(entries))
    messages = [await jetstream.get_msg(stream, number + 1) for number in range(len(entries))]

    assert [LogEntry.model_validate_json(message.data or b"") for message in messages] == entries
    assert [entry.previous_position for entry in entries] == [0, *(entry.position for entry in entries[:-1])]
