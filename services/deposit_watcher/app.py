"""The watcher's composition root: `python -m services.deposit_watcher.app`.

Of several processes one holds the lease and watches. All answer commands and follow the signer's log,
so that one who takes over knows at once which tickets are ours.
"""

import asyncio
from contextlib import suppress
from datetime import timedelta
from functools import partial

import uvloop
from nats.aio.client import Client

from contracts.deposit_watcher import CHAIN
from contracts.streams import CONSUMERS
from services.deposit_watcher import handlers
from services.deposit_watcher.application import Watching
from services.deposit_watcher.chain import ChainUnreachableError, LivepeerChain
from services.deposit_watcher.cursor import LogCursor
from services.deposit_watcher.handlers import SERVICE
from services.deposit_watcher.judge import Judge
from services.deposit_watcher.outbox import WatchingOutbox
from services.deposit_watcher.redemptions import RedemptionTable
from services.deposit_watcher.scan import Scan
from services.deposit_watcher.settings import Settings
from services.deposit_watcher.signed import PUBLISHER, READS, SignedTickets
from services.deposit_watcher.watcher import Watcher
from shared import logging
from shared.bucket import BucketWriter
from shared.bus import connect, make_broker
from shared.dead_letters import DeadLetters, answer_for
from shared.inbox import Inbox
from shared.lease import Lease
from shared.log import PublicLog
from shared.positions import Positions
from shared.relay import Relay
from shared.service import Task, serve, store_answers
from shared.store import ThinRecorder, postgres_env

[CONSUMER] = [each for each in CONSUMERS if (each.service, each.publisher) == (SERVICE, PUBLISHER)]


async def run(settings: Settings) -> None:
    logging.configure(SERVICE, settings.log_level)
    url, dsn = settings.nats_url.get_secret_value(), settings.postgres_dsn.get_secret_value()
    client = await connect(SERVICE, url)
    store = Store(settings)
    watching, chain, clock = store.watching, make_chain(settings), settings.clock()
    lease = Lease(dsn, SERVICE)
    bucket = BucketWriter(client, CHAIN, may_write=lambda: lease.sure)
    watcher = Watcher(chain, watching, bucket, clock, settings.poll_seconds)
    scan = Scan(
        chain=chain,
        watching=watching,
        cursor=store.cursor,
        clock=clock,
        first_block=settings.scan_from_block,
        blocks_max=settings.scan_blocks,
    )
    judge = make_judge(settings, client, store)
    broker = make_broker(SERVICE, url)
    broker.include_router(handlers.router)
    broker.context.set_global("public_log", store.public_log)
    broker.context.set_global("table", store.redemptions)
    inbox = Inbox(CONSUMER, client, watching, handlers.matching(watching, store.tickets), READS)
    letters = DeadLetters(SERVICE, watching, [inbox])
    tasks: list[Task] = [partial(watch, lease, chain, watcher, scan, judge), inbox.run, letters.watch]
    if settings.relay:
        tasks.append(Relay(SERVICE, dsn, store.public_log, client).run)

    def stop() -> None:
        watching.close()
        lease.release()

    async def ready() -> bool:
        """A process that waits for the lease is ready to take over."""
        return not lease.held or await watcher.has_observed()

    server = serve(
        brokers=[answer_for(letters, broker)],
        client=client,
        host=settings.http_host,
        port=settings.http_port,
        tasks=tasks,
        checks=[partial(store_answers, store.public_log.marks), ready],
        on_stop=stop,
    )
    await server.serve()
    await chain.close()


def make_judge(settings: Settings, client: Client, store: "Store") -> Judge:
    return Judge(
        client=client,
        watching=store.watching,
        tickets=store.tickets,
        positions=store.positions,
        reader=CONSUMER.durable,
        clock=settings.clock(),
        grace=timedelta(seconds=settings.match_grace_seconds),
    )


class Store:
    """Everything of the watcher's that is in PostgreSQL."""

    def __init__(self, settings: Settings) -> None:
        env = postgres_env(
            settings.postgres_dsn.get_secret_value(), SERVICE, create_tables=settings.create_tables
        )
        self.watching = Watching(env)
        assert isinstance(self.watching.recorder, ThinRecorder)
        datastore = self.watching.recorder.datastore
        self.public_log = PublicLog(self.watching, WatchingOutbox(self.watching))
        self.cursor = LogCursor(datastore)
        self.redemptions = RedemptionTable(datastore)
        self.tickets = SignedTickets(datastore)
        self.positions = Positions(self.watching)
        if settings.create_tables:
            for table in (self.public_log, self.cursor, self.redemptions, self.tickets, self.positions):
                table.create_tables()


async def watch(lease: Lease, chain: LivepeerChain, watcher: Watcher, scan: Scan, judge: Judge) -> None:
    """The bucket has one writer, so only the holder of the lease watches."""
    with suppress(ChainUnreachableError):  # who gets the lease asks again
        await chain.source()  # who waits is connected, and knows the addresses
    await lease.take()
    async with asyncio.TaskGroup() as group:
        for task in (
            lease.keep(),
            watcher.observe(),
            watcher.scan(scan),
            watcher.judge(judge),
            watcher.write_bucket(),
        ):
            group.create_task(task)


def make_chain(settings: Settings) -> LivepeerChain:
    return LivepeerChain(
        settings.rpc_url.get_secret_value(),
        settings.controller_address,
        settings.payers,
        settings.rpc_timeout_seconds,
        settings.finality,
    )


if __name__ == "__main__":
    uvloop.run(run(Settings()))
