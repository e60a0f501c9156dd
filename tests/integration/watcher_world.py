"""The deposit watcher's processes on the local chain with the real TicketBroker, and a signer's log."""

import asyncio
import os
import secrets
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from eth_account import Account
from eth_account.messages import encode_defunct
from nats.aio.client import Client
from nats.js.errors import NotFoundError
from web3 import Web3

from contracts.deposit_watcher import (
    CHAIN,
    ChainHead,
    PayerFunds,
    ReadRedemptions,
    RedemptionKind,
    RedemptionPage,
    RedemptionRow,
)
from contracts.message import Event, LogEntry, LogPage, ReadLog, read_log_subject
from contracts.signer import PaymentSigned
from contracts.streams import stream_of
from services.provisioner import bus
from services.provisioner.settings import ProvisionerSettings
from shared.bucket import BucketReader
from shared.bus import ServiceUnavailableError, ask, connect
from tests import infra
from tests.beside import until
from tests.integration.local_node import ETHER, RECIPIENT_RAND, Node
from tests.integration.service_process import bus_user, service
from tests.integration.signer_stand_in import SignerStandIn
from tilt.chain.deploy import Plan, deploy
from tilt.chain.local_chain import LocalChain, Ticket
from tilt.slot import Slot

NATS_USERS = tuple(map(bus_user, ("deposit_watcher", "signer", "quota", "edge")))

GRACE_SECONDS = 0.4
DEADLINE_SECONDS = READY_SECONDS = 120
STRANGER = "0x" + "ef" * 20


@dataclass
class World:
    node: Node
    chain: LocalChain
    plan: Plan
    bucket: BucketReader
    quota: Client
    edge: Client
    admin: Client
    signer: SignerStandIn
    log_file: Path
    start: Callable[[], Awaitable[int]]
    end: Callable[[int], Awaitable[None]]
    pid: int  # of the process that holds the lease
    settings: dict[str, str]
    nonce: int = field(default=0)
    rand: int = RECIPIENT_RAND  # of the params in use

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

    async def redemptions(self, kind: RedemptionKind | None = None) -> list[RedemptionRow]:
        asked = ReadRedemptions(redemption_kind=kind)
        return (await ask(self.edge, asked, RedemptionPage)).redemptions

    def winner(self, face_value: int, *, payer_key: str = "") -> Ticket:
        """A ticket of a payer, the first if none is named, which wins."""
        self.nonce += 1
        number, block_hash = self.chain.current_round()
        return Ticket(
            recipient=self.plan.orchestrator,
            sender=Account.from_key(payer_key or self.plan.payer_key).address,
            face_value=face_value,
            win_prob=2**256 - 1,
            sender_nonce=self.nonce,
            recipient_rand_hash=bytes(Web3.keccak(self.rand.to_bytes(32, "big"))),
            aux_data=number.to_bytes(32, "big") + block_hash,
        )

    def redeem(self, face_value: int, *, payer_key: str = "") -> str:
        """Redeem a winner that is in the signer's log, and return the transaction's hash."""
        ticket = self.winner(face_value, payer_key=payer_key)
        self.signer.tell(signed(ticket))
        return self.cash(ticket, payer_key=payer_key)

    def cash(self, ticket: Ticket, *, payer_key: str = "") -> str:
        """Sign a ticket with the payer's key and redeem it, whatever the signer's log says."""
        payer_key = payer_key or self.plan.payer_key
        message = encode_defunct(primitive=self.chain.ticket_hash(ticket))
        signature = bytes(Account.sign_message(message, payer_key).signature)
        receipt = self.chain.redeem(ticket, signature, self.rand, key=self.plan.orchestrator_key)
        return "0x" + bytes(receipt["transactionHash"]).hex()


@asynccontextmanager
async def watched_chain(
    database: infra.Database, nats: infra.Nats, slot: Slot, directory: Path
) -> AsyncIterator[World]:
    """A chain with two funded payers, and the first watcher's process when it has observed it."""
    plan = Plan(
        payer_key="0x" + secrets.token_hex(32),
        orchestrator_key="0x" + secrets.token_hex(32),
        deposit_wei=3 * ETHER + 1,
        reserve_wei=200 * ETHER + 7,
        other_payer_keys=("0x" + secrets.token_hex(32),),
    )
    chain_node = Node(directory / "chain")
    chain_node.start()
    chain = LocalChain(chain_node.url, deploy(chain_node.url, directory / "chain", plan))
    admin = await connect("admin", nats.url())
    for stream in (stream_of("deposit_watcher"), stream_of("signer"), f"KV_{CHAIN}"):
        with suppress(NotFoundError):
            await admin.jetstream().delete_stream(stream)
    await bus.ensure(admin, ProvisionerSettings(nats_url=nats.url(), http_port=0, max_bytes=64 * 1024**2))
    signer, quota, edge = [await connect(user, nats.url(user)) for user in ("signer", "quota", "edge")]
    stand_in = SignerStandIn(signer)
    await stand_in.serve()
    bucket = BucketReader(signer, CHAIN)
    following = asyncio.create_task(bucket.run())
    settings = {
        "POSTGRES_DSN": database.dsn("deposit_watcher"),
        "NATS_URL": nats.url("deposit_watcher"),
        "CREATE_TABLES": "true",
        "RPC_URL": chain_node.url,
        "RPC_TIMEOUT_SECONDS": "2",
        "CONTROLLER_ADDRESS": chain.world.controller,
        "PAYERS": ",".join([plan.payer, *map(address_of, plan.other_payer_keys), STRANGER]),
        "POLL_SECONDS": "0.1",
        "SCAN_FROM_BLOCK": str(chain.world.first_block),
        "SCAN_BLOCKS": "7",
        "MATCH_GRACE_SECONDS": str(GRACE_SECONDS),
    }
    log_file = directory / "deposit_watcher.log"
    running: dict[int, AbstractAsyncContextManager[int]] = {}
    numbers = count()

    async def start() -> int:
        port = slot.port(f"deposit_watcher-{next(numbers)}")
        context = service("deposit_watcher", port, settings, log_file, ready_seconds=READY_SECONDS)
        pid = await context.__aenter__()
        running[pid] = context
        return pid

    async def end(pid: int) -> None:
        with suppress(ProcessLookupError):  # it may have ended by itself
            os.kill(pid, signal.SIGKILL)
        await running.pop(pid).__aexit__(None, None, None)

    pid = await start()
    await until(lambda: bucket.ready and bucket.get("head") is not None)
    yield World(
        chain_node, chain, plan, bucket, quota, edge, admin, stand_in, log_file, start, end, pid, settings
    )
    for context in running.values():
        await context.__aexit__(None, None, None)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    for client in (signer, quota, edge, admin):
        await client.close()
    chain_node.stop(signal.SIGKILL)


def signed(ticket: Ticket, *, tickets: int = 1) -> PaymentSigned:
    """The entry of the signer's log for this ticket, and those after it."""
    return PaymentSigned(
        account_id="acme",
        session_id="session",
        user_id=None,
        app="",
        job_type="live",
        recipient=ticket.recipient.lower(),
        payer=ticket.sender.lower(),
        tickets=tickets,
        cost=ticket.face_value * tickets,
        face_value=ticket.face_value,
        win_prob=hex(ticket.win_prob),
        units=1,
        price_per_unit=1,
        pixels_per_unit=1,
        creation_round=int.from_bytes(ticket.aux_data[:32]),
        recipient_rand_hash=ticket.recipient_rand_hash.hex(),
        first_nonce=ticket.sender_nonce,
    )


def address_of(key: str) -> str:
    return str(Account.from_key(key).address)


async def eventually[Value](
    ask_for: Callable[[], Awaitable[Value]], condition: Callable[[Value], bool]
) -> Value:
    """Ask until the answer is as wanted; no answer is none, as processes are killed here."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            with suppress(ServiceUnavailableError):
                if condition(value := await ask_for()):
                    return value
            await asyncio.sleep(0.05)
