"""Accounts, put together: `python -m services.accounts.app`.

Of several processes the holder of the lease works: one writer for the bucket, one who answers
commands. The others wait, answer probes, and take over when it is gone.
"""

import asyncio
from functools import partial

from faststream.nats import NatsBroker

from contracts.accounts import IDENTITIES
from services.accounts.application import Accounts
from services.accounts.directory import PostgresDirectory
from services.accounts.handlers import router
from services.accounts.identities import Identities
from services.accounts.outbox import AccountsOutbox
from services.accounts.recovery import recovering
from services.accounts.settings import Settings
from shared import logging
from shared.bucket import BucketWriter
from shared.bus import connect, make_broker
from shared.lease import Lease
from shared.log import PublicLog
from shared.relay import Relay
from shared.service import Task, serve, store_answers
from shared.store import postgres_env

SERVICE = "accounts"


async def main() -> None:
    settings = Settings()
    logging.configure(SERVICE, settings.log_level)
    dsn, nats_url = settings.postgres_dsn.get_secret_value(), settings.nats_url.get_secret_value()
    env, clock = postgres_env(dsn, SERVICE, create_tables=settings.create_tables), settings.clock()
    accounts = Accounts(PostgresDirectory, env, default_payer=settings.default_payer)
    directory = PostgresDirectory(accounts)
    public_log = PublicLog(accounts, AccountsOutbox(accounts.mapper))
    if settings.create_tables:
        directory.create_tables()
        public_log.create_tables()

    client = await connect(SERVICE, nats_url)
    lease = Lease(dsn, SERVICE)
    writer = BucketWriter(client, IDENTITIES, may_write=lambda: lease.sure)
    identities = Identities(
        directory, writer, public_log.history.recovered_epoch, may_write=lambda: lease.sure
    )
    broker = make_broker(SERVICE, nats_url)
    broker.include_router(router)
    broker.context.set_global("accounts", accounts)
    broker.context.set_global("identities", identities)
    broker.context.set_global("clock", clock)
    broker.context.set_global("public_log", public_log)

    def stop() -> None:
        accounts.close()
        lease.release()

    tasks: list[Task] = [partial(work, lease, broker, identities)]
    if settings.relay:
        recover = recovering(accounts, clock)
        tasks.append(Relay(SERVICE, dsn, public_log, client, recover=recover).run)
    server = serve(
        brokers=[make_broker(SERVICE, nats_url)],  # without commands: those wait for the lease
        client=client,
        host=settings.http_host,
        port=settings.http_port,
        tasks=tasks,
        checks=[lambda: store_answers(public_log.marks)],
        on_stop=stop,
    )
    await server.serve()


async def work(lease: Lease, broker: NatsBroker, identities: Identities) -> None:
    """Once the lease is ours: answer commands and keep the bucket. Its loss ends the process."""
    await lease.take()
    async with broker, asyncio.TaskGroup() as group:
        await broker.start()
        for task in (lease.keep(), identities.run()):
            group.create_task(task)


if __name__ == "__main__":
    asyncio.run(main())
