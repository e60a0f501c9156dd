"""The stage of a run: real servers, a signer with two relays, and metering and quota reading its log."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import dataclass, replace
from random import Random
from typing import Self

import psycopg
from eventsourcing.persistence import PersistenceError
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError
from psycopg import Cursor
from psycopg.rows import DictRow

from contracts.deposit_watcher import FundsObserved
from contracts.message import LogEntry
from contracts.signer import PaymentSigned, SessionClosed
from contracts.streams import CONSUMERS, stream_of
from services.metering import handlers as metering_handlers
from services.metering.app import make_tables
from services.metering.application import Metering
from services.metering.entries import READS
from services.metering.outbox import MeteringOutbox
from services.metering.projections import usage_tables
from services.provisioner import bus
from services.provisioner.settings import ProvisionerSettings
from services.quota.application import Quota
from services.signer import handlers as signer_handlers
from services.signer.outbox import SignerOutbox
from shared.bus import connection_options, make_broker
from shared.clock import Clock
from shared.inbox import Apply, Inbox
from shared.log import PublicLog
from shared.money import Wei
from shared.positions import Positions
from shared.relay import Relay
from shared.store import Effect, NamedLog, postgres_env
from tests.faults.chain.bad_line import BadLine
from tests.faults.chain.books import READERS, Reader
from tests.faults.chain.bus_server import BusServer
from tests.faults.chain.customers import PAYER, START, Market, signer
from tests.infra import Database, Postgres
from tests.integration.service_process import bus_user
from tilt.slot import Slot

RELAYS = 2
STREAM = stream_of("signer")
HOLDERS = """
SELECT pg_terminate_backend(pid) FROM pg_locks
WHERE locktype = 'advisory' AND granted AND objid = (hashtext('relay of signer')::bigint & 4294967295)::oid
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@dataclass
class Reading:
    """One service's reader.

    It can be ended between the effect of a batch and its acknowledgement, and a commit of it undone.
    """

    reader: Reader
    inbox: Inbox
    task: asyncio.Task[None] | None = None
    dies_unacknowledged: bool = False
    deaths: int = 0
    next_commit_fails: bool = False

    def start(self) -> None:
        self.task = asyncio.create_task(self.inbox.run())

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            with suppress(asyncio.CancelledError):
                await self.task
            self.task = None

    def troubled(self, apply: Apply) -> Apply:
        """Apply, or when told to, fail at the last moment, or be gone before anything is acknowledged."""
        loop = asyncio.get_running_loop()

        def applying(entries: Sequence[LogEntry], done: Effect) -> None:
            def failing(cursor: Cursor[DictRow]) -> None:
                done(cursor)
                if self.next_commit_fails:
                    self.next_commit_fails = False
                    raise PersistenceError("the store broke just then")

            apply(entries, failing)
            if self.dies_unacknowledged:
                self.dies_unacknowledged = False
                loop.call_soon_threadsafe(self._die)

        return applying

    def _die(self) -> None:
        if self.task is not None:
            self.task.cancel()
            self.deaths += 1
            self.task.add_done_callback(lambda _: self.start())


class Stage:
    """Everything that runs; built by `open`, taken down by `close`."""

    def __init__(self, postgres: Postgres, slot: Slot, random: Random) -> None:
        self.random = random
        self._postgres = postgres
        self._slot = slot
        self._stack = ExitStack()
        self._clients = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self.lines: list[BadLine] = []
        self.readings: list[Reading] = []
        self.database: Database
        self.server: BusServer
        self.market: Market
        self.admin: Client

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for reading in self.readings:
            await reading.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._clients.aclose()
        self._stack.close()

    async def _open(self) -> None:
        self.database = self._stack.enter_context(self._postgres.database("signer", "metering", "quota"))
        self.server = BusServer(self._slot, [bus_user(name) for name in ("signer", "metering", "quota")])
        self._stack.callback(self.server.remove)
        await asyncio.to_thread(self.server.start)
        self.admin = await self._connect(Client(), "admin")
        self._provisioning = ProvisionerSettings(
            nats_url=self.server.url(), http_port=0, max_bytes=64 * 1024**2
        )
        await bus.ensure(self.admin, self._provisioning)
        self._tasks.append(asyncio.create_task(self._provision()))
        await self._open_signer()
        await self._open_metering()
        await self._open_quota()
        for reading in self.readings:
            reading.start()

    async def _open_signer(self) -> None:
        env = self._env("signer")
        signers = signer(env), signer(env)
        log = NamedLog("signer", env)
        for application in (*signers, log):
            self._stack.callback(application.close)
        public_log = PublicLog(log, SignerOutbox(log))
        public_log.create_tables()
        broker = make_broker("signer", self.server.url("signer"))
        broker.include_router(signer_handlers.router)
        for name, value in {"signing": signers[0], "clock": Clock(), "public_log": public_log}.items():
            broker.context.set_global(name, value)
        self._clients.push_async_callback(broker.stop)
        await broker.start()
        for _ in range(RELAYS):
            line = BadLine(Random(self.random.random()))
            await self._connect(line, "signer")
            self.lines.append(line)
            relay = Relay("signer", self.database.dsn("signer"), public_log, line)
            self._tasks.append(asyncio.create_task(relay.run()))
        quota = Quota(Wei(10**18), self._env("quota"))
        self._stack.callback(quota.close)
        self.market = Market(signers, quota, self.random)

    async def _open_metering(self) -> None:
        metering = Metering(usage_tables("metering"), self._env("metering"))
        self._stack.callback(metering.close)
        make_tables(metering, PublicLog(metering, MeteringOutbox(metering)))
        await self._read(READERS[0], metering, metering_handlers.recording(metering, Clock()), READS)

    async def _open_quota(self) -> None:
        quota = self.market.quota
        Positions(quota).create_tables()
        quota.create_tables()
        quota.follow_funds([_funds()], lambda _: None)
        reads = [PaymentSigned.subject, SessionClosed.subject]
        await self._read(READERS[1], quota, quota.follow_spend, reads)

    async def _read(
        self, reader: Reader, application: Metering | Quota, apply: Apply, reads: Sequence[str]
    ) -> None:
        [consumer] = [each for each in CONSUMERS if each.durable == reader.durable]
        client = await self._connect(Client(), reader.service)
        reading = Reading(reader, Inbox(consumer, client, application, lambda *_: None, reads))
        reading.inbox = Inbox(consumer, client, application, reading.troubled(apply), reads)
        self.readings.append(reading)

    async def _connect[C: Client](self, client: C, user: str) -> C:
        options = connection_options(user)
        await client.connect([self.server.url(user)], error_cb=_ignore, **options)
        self._clients.push_async_callback(client.close)
        return client

    def _env(self, service: str) -> dict[str, str]:
        return dict(postgres_env(self.database.dsn(service), service, create_tables=True))

    async def _provision(self) -> None:
        async for _ in bus.watch(self.admin, self._provisioning):
            await asyncio.sleep(0.2)

    # What can be done to it

    async def steal_lock(self) -> int:
        """End the session of whoever leads; how many there were."""

        def terminate() -> int:
            with psycopg.connect(self.database.dsn(), autocommit=True) as connection:
                return len(connection.execute(HOLDERS).fetchall())

        return await asyncio.to_thread(terminate)

    async def delete_consumer(self, durable: str) -> None:
        """The provisioner makes it again; it begins at the first message, so all comes once more."""
        with suppress(NatsError, JetStreamError, TimeoutError):
            await self.admin.jetstream().delete_consumer(STREAM, durable)

    async def redeliver_soon(self, durable: str) -> None:
        """Have what is not acknowledged come again after a second, not after half a minute."""
        [config] = [config for _, config in bus.consumers() if config.durable_name == durable]
        await self.delete_consumer(durable)
        with suppress(NatsError, JetStreamError, TimeoutError):
            await self.admin.jetstream().add_consumer(STREAM, replace(config, ack_wait=1))

    async def purge(self, *, upto: bool) -> None:
        """Take away what was told before some message, or all but the last few."""
        with suppress(NatsError, JetStreamError, TimeoutError):
            jetstream = self.admin.jetstream()
            state = (await jetstream.stream_info(STREAM)).state
            if state.messages:
                first = self.random.randint(state.first_seq, state.last_seq + 1)
                kept = self.random.randint(1, 5)
                await jetstream.purge_stream(STREAM, seq=first if upto else None, keep=None if upto else kept)

    async def delete_some(self) -> int:
        """Take single messages out of the stream, after they were acknowledged to the relay."""
        gone = 0
        with suppress(NatsError, JetStreamError, TimeoutError):
            jetstream = self.admin.jetstream()
            state = (await jetstream.stream_info(STREAM)).state
            for _ in range(5 if state.messages else 0):
                sequence = self.random.randint(state.first_seq, state.last_seq)
                with suppress(JetStreamError):
                    gone += await jetstream.delete_msg(STREAM, sequence)
        return gone

    async def delete_stream(self) -> None:
        with suppress(NatsError, JetStreamError, TimeoutError):
            await self.admin.jetstream().delete_stream(STREAM)


def _funds() -> LogEntry:
    event = FundsObserved(
        payer=PAYER,
        deposit=10**18,
        reserve=10**18,
        withdraw_round=0,
        pool_size=100,
        l1_block=1,
        block_hash="0x",
    )
    return LogEntry(
        epoch=1,
        position=1,
        previous_position=0,
        subject=event.subject,
        at=START,
        event=event.model_dump(mode="json"),
    )


async def _ignore(_: Exception) -> None:
    """The line is meant to break."""
