"""The watcher's composition root: `python -m services.deposit_watcher.app`.

Of several processes one holds the lease and watches; all answer commands.
"""

import asyncio
from functools import partial

import uvloop

from contracts.deposit_watcher import CHAIN
from services.deposit_watcher import handlers
from services.deposit_watcher.application import Watching
from services.deposit_watcher.chain import LivepeerChain
from services.deposit_watcher.cursor import LogCursor
from services.deposit_watcher.handlers import SERVICE
from services.deposit_watcher.outbox import WatchingOutbox
from services.deposit_watcher.scan import Scan
from services.deposit_watcher.settings import Settings
from services.deposit_watcher.watcher import Watcher
from shared import logging
from shared.bucket import BucketWriter
from shared.bus import connect, make_broker
from shared.lease import Lease
from shared.log import PublicLog
from shared.relay import Relay
from shared.service import Task, serve, store_answers
from shared.store import ThinRecorder, postgres_env


async def run(settings: Settings) -> None:
    logging.configure(SERVICE, settings.log_level)
    url, dsn = settings.nats_url.get_secret_value(), settings.postgres_dsn.get_secret_value()
    client = await connect(SERVICE, url)
    watching = Watching(postgres_env(dsn, SERVICE, create_tables=settings.create_tables))
    public_log = PublicLog(watching, WatchingOutbox(watching))
    assert isinstance(watching.recorder, ThinRecorder)
    cursor = LogCursor(watching.recorder.datastore)
    if settings.create_tables:
        public_log.create_tables()
        cursor.create_tables()

    clock = settings.clock()
    chain = make_chain(settings)
    watcher = Watcher(chain, watching, BucketWriter(client, CHAIN), clock, settings.poll_seconds)
    scan = Scan(
        chain=chain,
        watching=watching,
        cursor=cursor,
        clock=clock,
        first_block=settings.scan_from_block,
        blocks_max=settings.scan_blocks,
    )
    lease = Lease(dsn, SERVICE)
    broker = make_broker(SERVICE, url)
    broker.include_router(handlers.router)
    broker.context.set_global("public_log", public_log)
    tasks: list[Task] = [partial(watch, lease, watcher, scan)]
    if settings.relay:
        tasks.append(Relay(SERVICE, dsn, public_log, client).run)

    def stop() -> None:
        watching.close()
        lease.release()

    async def ready() -> bool:
        """A process that waits for the lease is ready to take over."""
        return not lease.held or await watcher.has_observed()

    server = serve(
        brokers=[broker],
        client=client,
        host=settings.http_host,
        port=settings.http_port,
        tasks=tasks,
        checks=[partial(store_answers, public_log.marks), ready],
        on_stop=stop,
    )
    await server.serve()
    await chain.close()


async def watch(lease: Lease, watcher: Watcher, scan: Scan) -> None:
    """The bucket has one writer, so only the holder of the lease watches."""
    await lease.take()
    async with asyncio.TaskGroup() as group:
        for task in (lease.keep(), watcher.observe(), watcher.scan(scan), watcher.write_bucket()):
            group.create_task(task)


def make_chain(settings: Settings) -> LivepeerChain:
    rpc_url, timeout = settings.rpc_url.get_secret_value(), settings.rpc_timeout_seconds
    return LivepeerChain(rpc_url, settings.controller_address, settings.payers, timeout)


if __name__ == "__main__":
    uvloop.run(run(Settings()))
