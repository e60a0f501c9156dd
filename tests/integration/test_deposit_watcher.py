"""The deposit watcher as a process, on the local chain with the real TicketBroker."""

import asyncio
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from nats.aio.client import Client
from nats.js.errors import NotFoundError
from web3 import Web3

from contracts.deposit_watcher import (
    CHAIN,
    ChainHead,
    FundsObserved,
    PayerFunds,
    RoundChanged,
    TicketRedeemed,
)
from contracts.message import Event, LogEntry, LogPage, ReadLog, read_log_subject
from contracts.streams import stream_of
from services.provisioner import bus
from services.provisioner.settings import ProvisionerSettings
from shared.bucket import BucketReader
from shared.bus import ask, connect
from tests import infra
from tests.integration.service_process import bus_user, service
from tilt.chain import node
from tilt.chain.deploy import Plan, deploy
from tilt.chain.local_chain import LocalChain, Ticket
from tilt.slot import Slot

pytestmark = pytest.mark.anyio

NATS_USERS = (bus_user("deposit_watcher"), bus_user("signer"), bus_user("quota"))
ROOT = Path(__file__).parents[2]
ETHER = 10**18
RECIPIENT_RAND = 0xC0FFEE
STRANGER = "0x" + "ef" * 20


class Node:
    """The chain's node; it may be stopped and started again."""

    def __init__(self, directory: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.directory = directory
        self.url = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        self.process = subprocess.Popen(node.argv(port=self._port, directory=self.directory), cwd=ROOT)
        node.wait_until_ready(self.url, 20)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(how)
        self.process.wait(20)


@dataclass
class World:
    node: Node
    chain: LocalChain
    plan: Plan
    bucket: BucketReader
    quota: Client
    admin: Client
    start: Callable[[], Awaitable[int]]
    end: Callable[[int], Awaitable[None]]
    pid: int  # of the first process
    settings: dict[str, str]
    nonce: int = field(default=0)

    @property
    def payer(self) -> str:
        return self.plan.payer.lower()

    @property
    def second_key(self) -> str:
        return self.plan.other_payer_keys[0]

    @property
    def second(self) -> str:
        return address_of(self.second_key).lower()

    def head(self) -> ChainHead:
        entry = self.bucket.get("head")
        assert entry is not None
        return ChainHead.model_validate_json(entry)

    def funds(self, payer: str | None = None) -> PayerFunds:
        entry = self.bucket.get(f"payer.{payer or self.payer}")
        assert entry is not None
        return PayerFunds.model_validate_json(entry)

    async def log(self) -> list[LogEntry]:
        page = await ask(self.quota, ReadLog(after=0), LogPage, subject=read_log_subject("deposit_watcher"))
        return page.entries

    async def told[Told: Event](self, event: type[Told]) -> list[Told]:
        found = [entry for entry in await self.log() if entry.subject == event.subject]
        return [event.model_validate(entry.event) for entry in found]

    def redeem(self, face_value: int, *, payer_key: str = "") -> str:
        """Redeem a winner of a payer, the first if none is named, and return the transaction's hash."""
        self.nonce += 1
        payer_key = payer_key or self.plan.payer_key
        number, block_hash = self.chain.current_round()
        ticket = Ticket(
            recipient=self.plan.orchestrator,
            sender=Account.from_key(payer_key).address,
            face_value=face_value,
            win_prob=2**256 - 1,
            sender_nonce=self.nonce,
            recipient_rand_hash=bytes(Web3.keccak(RECIPIENT_RAND.to_bytes(32, "big"))),
            aux_data=number.to_bytes(32, "big") + block_hash,
        )
        message = encode_defunct(primitive=self.chain.ticket_hash(ticket))
        signature = bytes(Account.sign_message(message, payer_key).signature)
        receipt = self.chain.redeem(ticket, signature, RECIPIENT_RAND, key=self.plan.orchestrator_key)
        return "0x" + bytes(receipt["transactionHash"]).hex()


@pytest.fixture
async def world(
    database: Callable[..., infra.Database], nats: infra.Nats, slot: Slot, directory: Path, tmp_path: Path
) -> AsyncIterator[World]:
    plan = Plan(
        payer_key="0x" + secrets.token_hex(32),
        orchestrator_key="0x" + secrets.token_hex(32),
        deposit_wei=3 * ETHER + 1,
        reserve_wei=200 * ETHER + 7,
        other_payer_keys=("0x" + secrets.token_hex(32),),
    )
    chain_node = Node(tmp_path)
    chain_node.start()
    chain = LocalChain(chain_node.url, deploy(chain_node.url, tmp_path, plan))
    admin = await connect("admin", nats.url())
    for stream in (stream_of("deposit_watcher"), f"KV_{CHAIN}"):
        with suppress(NotFoundError):
            await admin.jetstream().delete_stream(stream)
    await bus.ensure(admin, ProvisionerSettings(nats_url=nats.url(), http_port=0, max_bytes=64 * 1024**2))
    signer, quota = await connect("signer", nats.url("signer")), await connect("quota", nats.url("quota"))
    bucket = BucketReader(signer, CHAIN)
    following = asyncio.create_task(bucket.run())
    settings = {
        "POSTGRES_DSN": database("deposit_watcher").dsn("deposit_watcher"),
        "NATS_URL": nats.url("deposit_watcher"),
        "CREATE_TABLES": "true",
        "RPC_URL": chain_node.url,
        "RPC_TIMEOUT_SECONDS": "1",
        "CONTROLLER_ADDRESS": chain.world.controller,
        "PAYERS": ",".join([plan.payer, *map(address_of, plan.other_payer_keys), STRANGER]),
        "POLL_SECONDS": "0.05",
        "SCAN_FROM_BLOCK": str(chain.world.first_block),
        "SCAN_BLOCKS": "7",
    }
    running: dict[int, AbstractAsyncContextManager[int]] = {}

    async def start() -> int:
        port = slot.port(f"deposit_watcher-{len(running)}")
        context = service("deposit_watcher", port, settings, directory / "deposit_watcher.log")
        pid = await context.__aenter__()
        running[pid] = context
        return pid

    async def end(pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        await running.pop(pid).__aexit__(None, None, None)

    pid = await start()
    await until(lambda: bucket.ready and bucket.get("head") is not None)
    yield World(chain_node, chain, plan, bucket, quota, admin, start, end, pid, settings)
    for context in running.values():
        await context.__aexit__(None, None, None)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    for client in (signer, quota, admin):
        await client.close()
    chain_node.stop(signal.SIGKILL)


def _payers(told: Iterable[FundsObserved]) -> set[str]:
    return {event.payer for event in told}


def address_of(key: str) -> str:
    return str(Account.from_key(key).address)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


async def eventually[Value](
    ask_for: Callable[[], Awaitable[Value]], condition: Callable[[Value], bool]
) -> Value:
    async with asyncio.timeout(20):
        while not condition(value := await ask_for()):
            await asyncio.sleep(0.05)
    return value


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
    await until(lambda: world.funds().deposit == 3 * ETHER + 6)
    assert (world.funds(world.second).deposit, world.funds(world.second).reserve) == (
        untouched.deposit,
        untouched.reserve,
    )

    world.chain.unlock(world.second_key)
    await until(lambda: world.funds(world.second).withdraw_round > 0)
    world.chain.cancel_unlock(world.second_key)
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
