"""Metering's composition root: `python -m services.metering.app`.

All its processes answer commands; the holder of the lease follows the logs of signer and quota, and
sweeps.
"""

from collections.abc import Sequence
from functools import partial

import uvloop
from faststream.nats import NatsBroker
from nats.aio.client import Client
from psycopg.sql import Identifier

from contracts.streams import CONSUMERS
from services.metering import (
    deliveries,
    entries,
    handlers,
    meter_handlers,
    meter_tables,
    signed_ticket_handlers,
    stream_handlers,
    usage_event_handlers,
)
from services.metering.application import Metering
from services.metering.as_of import AsOf
from services.metering.closing import Closing
from services.metering.closings import TABLE as CLOSINGS
from services.metering.closings import Closings
from services.metering.handlers import SERVICE
from services.metering.meter_queries import MeterQueries
from services.metering.meters import MeterBook
from services.metering.outbox import MeteringOutbox
from services.metering.projections import create_tables, usage_tables
from services.metering.queries import UsageQueries
from services.metering.settings import Settings
from services.metering.signed_ticket_tables import KnownTickets
from services.metering.signed_tickets import SignedTickets
from services.metering.stream_queries import StreamQueries
from services.metering.stream_tables import StreamStore
from services.metering.streaming import Streaming
from services.metering.usage_events import UsageEvents, Window
from shared import logging
from shared.bus import connect, make_broker
from shared.clock import Clock
from shared.dead_letters import DeadLetters, answer_for
from shared.inbox import Apply, Inbox
from shared.lease import Lease, lead
from shared.log import PublicLog
from shared.positions import Positions
from shared.relay import Relay
from shared.service import Task, serve, store_answers
from shared.store import ThinRecorder, postgres_env

CONSUMERS_BY_PUBLISHER = {each.publisher: each for each in CONSUMERS if each.service == SERVICE}


def inboxes(metering: Metering, streaming: Streaming, clock: Clock, client: Client) -> list[Inbox]:
    """The logs metering follows, and what it reads of each."""
    follows: dict[str, tuple[Apply, Sequence[str]]] = {
        entries.PUBLISHER: (handlers.recording(metering, clock), entries.READS),
        deliveries.PUBLISHER: (stream_handlers.following(streaming, clock), deliveries.READS),
    }
    return [
        Inbox(CONSUMERS_BY_PUBLISHER[publisher], client, metering, *read)
        for publisher, read in follows.items()
    ]


def pushed(metering: Metering, window: Window) -> dict[str, object]:
    """What the handlers of pushed usage and meters work with."""
    tables = meter_tables.tables_of(SERVICE)
    book = MeterBook(metering, tables)
    return {"meters": book, "usage_events": UsageEvents(metering, tables, book, window)}


def answering(  # noqa: PLR0917 (what the root has put together)
    metering: Metering, streaming: Streaming, public_log: PublicLog, clock: Clock, url: str, window: Window
) -> NatsBroker:
    """The broker of metering's commands, and what their handlers work with."""
    broker = make_broker(SERVICE, url)
    datastore = _recorder(metering).datastore
    context = {
        "queries": UsageQueries(datastore),
        "stream_queries": StreamQueries(datastore),
        "meter_queries": MeterQueries(datastore, AsOf(datastore.schema, metering.mapper)),
        "closing": Closing(metering, Closings(Identifier(datastore.schema, CLOSINGS))),
        "streaming": streaming,
        "signed_tickets": SignedTickets(metering, KnownTickets(datastore)),
        "public_log": public_log,
        "clock": clock,
        "audit": metering.audit,
        **pushed(metering, window),
    }
    for router in (
        handlers.router,
        stream_handlers.router,
        meter_handlers.router,
        usage_event_handlers.router,
        signed_ticket_handlers.router,
    ):
        broker.include_router(router)
    for name, value in context.items():
        broker.context.set_global(name, value)
    return broker


async def run(settings: Settings) -> None:
    logging.configure(SERVICE, settings.log_level)
    url, dsn = settings.nats_url.get_secret_value(), settings.postgres_dsn.get_secret_value()
    client = await connect(SERVICE, url)
    env = postgres_env(dsn, SERVICE, create_tables=settings.create_tables)
    metering = Metering(usage_tables(SERVICE), env)
    public_log = PublicLog(metering, MeteringOutbox(metering))
    store, clock = StreamStore(_recorder(metering).datastore), settings.clock()
    if settings.create_tables:
        make_tables(metering, public_log)

    streaming = Streaming(metering, store, grace=settings.stream_grace(), raw_days=settings.raw_body_days)
    lease = Lease(dsn, SERVICE)
    readers = inboxes(metering, streaming, clock, client)
    letters = DeadLetters(SERVICE, metering, readers)
    alone: list[Task] = [partial(streaming.sweep, clock), *(reader.run for reader in readers)]
    tasks: list[Task] = [partial(lead, lease, *alone), letters.watch]
    if settings.relay:
        tasks.append(Relay(SERVICE, dsn, public_log, client).run)

    def stop() -> None:
        metering.close()
        lease.release()

    broker = answering(metering, streaming, public_log, clock, url, settings.event_window())
    server = serve(
        brokers=[answer_for(letters, broker)],
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
    metering.audit.create_tables()
    datastore = _recorder(metering).datastore
    with datastore.get_connection() as connection:
        create_tables(connection, datastore.schema)
    StreamStore(datastore).create_tables()
    KnownTickets(datastore).create_table()
    meter_tables.create_tables(datastore)


def _recorder(metering: Metering) -> ThinRecorder:
    assert isinstance(metering.recorder, ThinRecorder)
    return metering.recorder


if __name__ == "__main__":
    uvloop.run(run(Settings()))
