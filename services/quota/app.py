"""Quota's composition root: `python -m services.quota.app`."""

from collections.abc import Sequence
from functools import partial

import uvloop
from nats.aio.client import Client

from contracts.accounts import AccountOpened, AccountResumed, AccountSuspended, ApiKeyRevoked
from contracts.deposit_watcher import FundsObserved, RoundChanged
from contracts.signer import PaymentSigned, SessionClosed, TicketRecovered
from contracts.streams import CONSUMERS
from services.quota.application import Quota
from services.quota.closing import Closing
from services.quota.handlers import router
from services.quota.outbox import QuotaOutbox
from services.quota.settings import QuotaSettings
from shared import logging
from shared.bus import connect, make_broker
from shared.inbox import Apply, Inbox
from shared.lease import Lease, lead
from shared.log import PublicLog
from shared.money import Wei
from shared.positions import Positions
from shared.relay import Relay
from shared.service import Task, serve, store_answers
from shared.store import postgres_env

SERVICE = "quota"


def inboxes(quota: Quota, client: Client) -> list[Inbox]:
    """The logs quota follows, and what it reads of each."""
    follows: dict[str, tuple[Apply, Sequence[str]]] = {
        "signer": (
            quota.follow_spend,
            [PaymentSigned.subject, SessionClosed.subject, TicketRecovered.subject],
        ),
        "accounts": (
            quota.follow_accounts,
            [
                AccountOpened.subject,
                AccountSuspended.subject,
                AccountResumed.subject,
                ApiKeyRevoked.subject,
            ],
        ),
        "deposit_watcher": (quota.follow_funds, [FundsObserved.subject, RoundChanged.subject]),
    }
    mine = [consumer for consumer in CONSUMERS if consumer.service == SERVICE]
    return [Inbox(consumer, client, quota, *follows[consumer.publisher]) for consumer in mine]


async def run(settings: QuotaSettings) -> None:
    logging.configure(SERVICE, settings.log_level)
    clock = settings.clock()
    url, dsn = settings.nats_url.get_secret_value(), settings.postgres_dsn.get_secret_value()
    client = await connect(SERVICE, url)
    quota = Quota(
        Wei(settings.default_spend_limit_wei),
        postgres_env(dsn, SERVICE, create_tables=settings.create_tables),
    )
    public_log = PublicLog(quota, QuotaOutbox(quota))
    if settings.create_tables:
        public_log.create_tables()
        Positions(quota).create_tables()
        quota.allowances.create_tables()

    broker = make_broker(SERVICE, url)
    broker.include_router(router)
    for name, value in {"quota": quota, "clock": clock, "public_log": public_log}.items():
        broker.context.set_global(name, value)
    closing = Closing(
        quota.allowances,
        client,
        clock,
        idle_seconds=settings.idle_seconds,
        retry_seconds=settings.close_retry_seconds,
    )
    readers = [inbox.run for inbox in inboxes(quota, client)]
    lease = Lease(dsn, SERVICE)  # all grant; one follows the logs and takes allowances back
    tasks: list[Task] = [partial(lead, lease, closing.run, *readers)]
    if settings.relay:
        tasks.append(Relay(SERVICE, dsn, public_log, client).run)

    def stop() -> None:
        quota.close()
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


if __name__ == "__main__":
    uvloop.run(run(QuotaSettings()))
