"""Metering's composition root: `python -m services.metering.app`.

All its processes answer queries; the holder of the lease follows the signer's log.
"""

from functools import partial

import uvloop

from contracts.streams import CONSUMERS
from services.metering import handlers
from services.metering.application import Metering
from services.metering.entries import PUBLISHER, READS
from services.metering.handlers import SERVICE
from services.metering.outbox import MeteringOutbox
from services.metering.projections import create_tables, usage_tables
from services.metering.queries import UsageQueries
from services.metering.settings import Settings
from shared import logging
from shared.bus import connect, make_broker
from shared.inbox import Inbox
from shared.lease import Lease, lead
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
    env = postgres_env(dsn, SERVICE, create_tables=settings.create_tables)
    metering = Metering(usage_tables(SERVICE), env)
    public_log = PublicLog(metering, MeteringOutbox(metering))
    if settings.create_tables:
        make_tables(metering, public_log)

    broker = make_broker(SERVICE, url)
    broker.include_router(handlers.router)
    broker.context.set_global("queries", UsageQueries(_recorder(metering).datastore))
    broker.context.set_global("public_log", public_log)
    apply = handlers.recording(metering, settings.clock())
    inbox = Inbox(CONSUMER, client, metering, apply, READS)
    lease = Lease(dsn, SERVICE)
    tasks: list[Task] = [partial(lead, lease, inbox.run)]
    if settings.relay:
        tasks.append(Relay(SERVICE, dsn, public_log, client).run)

    def stop() -> None:
        metering.close()
        lease.release()

    server = serve(
        brokers=[broker],
        client=client,
        host=settings.http_host,
        port=settings.http_port,
        tasks=tasks,
        checks=[partial(store_answers, public_log.marks)],
        on_stop=stop,
    )
    await server.serve()


def make_tables(metering: Metering, public_log: PublicLog) -> None:
    """What the event store does not make itself."""
    public_log.create_tables()
    Positions(metering).create_tables()
    datastore = _recorder(metering).datastore
    with datastore.get_connection() as connection:
        create_tables(connection, datastore.schema)


def _recorder(metering: Metering) -> ThinRecorder:
    assert isinstance(metering.recorder, ThinRecorder)
    return metering.recorder


if __name__ == "__main__":
    uvloop.run(run(Settings()))
