"""Quota's composition root: `python -m services.quota.app`."""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

import structlog
import uvloop
from eventsourcing.persistence import PersistenceError
from faststream.nats import NatsBroker
from nats.aio.client import Client

from contracts.accounts import AccountOpened, AccountResumed, AccountSuspended, ApiKeyRevoked
from contracts.deposit_watcher import FundsObserved, RoundChanged
from contracts.limits import RULES
from contracts.signed_tickets import SignedTicketsRecorded
from contracts.signer import PaymentSigned, SessionClosed, TicketRecovered
from contracts.stops import STOPS
from contracts.streams import CONSUMERS
from services.quota import handlers, limit_handlers, stream_handlers, watch_handlers
from services.quota.application import Quota
from services.quota.authorizing import Authorizing
from services.quota.closing import Closing
from services.quota.correcting import Correcting
from services.quota.domain.spending import Rate
from services.quota.limiting import Limiting
from services.quota.outbox import QuotaOutbox
from services.quota.overtaking import set_by
from services.quota.rules import RulesWriter
from services.quota.settings import QuotaSettings
from services.quota.stopping import Stopping
from services.quota.streaming import Streaming
from services.quota.together import Together
from services.quota.watching import Watching
from shared import logging
from shared.bucket import BucketWriter
from shared.bus import connect, make_broker
from shared.clock import Clock
from shared.dead_letters import DeadLetters, answer_for
from shared.inbox import Apply, Inbox
from shared.lease import Lease, lead
from shared.log import PublicLog
from shared.money import MicroUsd, Wei
from shared.positions import Positions
from shared.relay import Relay
from shared.service import Task, serve, store_answers
from shared.store import postgres_env

SERVICE = "quota"
RATE_RETRY_SECONDS = 1.0
ASKS_TOGETHER = 64  # in a commit

log = structlog.get_logger()


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
        "metering": (Correcting(quota).follow_tickets, [SignedTicketsRecorded.subject]),
    }
    mine = [consumer for consumer in CONSUMERS if consumer.service == SERVICE]
    late = {"signer": quota.follow_late_spend}
    return [
        Inbox(
            consumer,
            client,
            quota,
            *follows[consumer.publisher],
            sets=set_by,
            apply_late=late.get(consumer.publisher),
        )
        for consumer in mine
    ]


def open_quota(settings: QuotaSettings, dsn: str) -> Quota:
    return Quota(
        Wei(settings.default_spend_limit_wei),
        postgres_env(dsn, SERVICE, create_tables=settings.create_tables),
        default_key_limits=settings.key_limits(),
        sensitivity=settings.sensitivity(),
    )


def create_tables(quota: Quota, public_log: PublicLog) -> None:
    public_log.create_tables()
    Positions(quota).create_tables()
    quota.create_tables()


def answering(
    quota: Quota, public_log: PublicLog, clock: Clock, url: str, use_cases: Mapping[str, object]
) -> NatsBroker:
    """The broker of quota's commands, and what their handlers work with."""
    broker = make_broker(SERVICE, url)
    for each in (handlers, limit_handlers, stream_handlers, watch_handlers):
        broker.include_router(each.router)
    context = {
        "quota": quota,
        "grants": Together(quota.grant_all, most=ASKS_TOGETHER),
        "rules": quota.rules,
        "audit": quota.audit,
        "clock": clock,
        "public_log": public_log,
        **use_cases,
    }
    for name, value in context.items():
        broker.context.set_global(name, value)
    return broker


async def run(settings: QuotaSettings) -> None:
    logging.configure(SERVICE, settings.log_level)
    clock = settings.clock()
    url, dsn = settings.nats_url.get_secret_value(), settings.postgres_dsn.get_secret_value()
    client = await connect(SERVICE, url)
    quota = open_quota(settings, dsn)
    public_log = PublicLog(quota, QuotaOutbox(quota))
    if settings.create_tables:
        create_tables(quota, public_log)
    limiting, stopping, streaming = Limiting(quota), Stopping(quota), Streaming(quota)
    authorizing = Authorizing(quota, idle_seconds=settings.idle_seconds)
    use_cases = {
        "limiting": limiting,
        "stopping": stopping,
        "streaming": streaming,
        "authorizing": authorizing,
        "watching": Watching(quota),
    }
    closing = _closing(quota, client, clock, settings)
    lease = Lease(dsn, SERVICE)  # all grant and limit; one follows the logs, and does what goes on by itself
    writers = [BucketWriter(client, bucket, lambda: lease.sure) for bucket in (RULES, STOPS)]
    rules = RulesWriter(quota.rules, public_log, *writers)
    sweeps = (streaming.sweep, authorizing.settle, limiting.drop_expired, stopping.sweep)
    alone: list[Task] = [closing.run, rules.run, *(partial(sweep, clock) for sweep in sweeps)]
    readers = inboxes(quota, client)
    letters = DeadLetters(SERVICE, quota, readers)
    tasks: list[Task] = [partial(lead, lease, *alone, *(reader.run for reader in readers)), letters.watch]
    if settings.usd_per_eth is not None:
        tasks.append(partial(_observe_rate, quota, settings.rate(), clock))
    if settings.relay:
        tasks.append(Relay(SERVICE, dsn, public_log, client).run)

    def stop() -> None:
        quota.close()
        lease.release()

    server = serve(
        brokers=[answer_for(letters, answering(quota, public_log, clock, url, use_cases))],
        client=client,
        host=settings.http_host,
        port=settings.http_port,
        tasks=tasks,
        checks=[partial(store_answers, public_log.marks)],
        on_stop=stop,
    )
    await server.serve()


def _closing(quota: Quota, client: Client, clock: Clock, settings: QuotaSettings) -> Closing:
    return Closing(
        quota.allowances,
        client,
        clock,
        idle_seconds=settings.idle_seconds,
        retry_seconds=settings.close_retry_seconds,
    )


async def _observe_rate(quota: Quota, micro_usd_per_eth: MicroUsd, clock: Clock) -> None:
    """Tell once what the settings say; a store that is away is waited for."""
    while True:
        try:
            rate = Rate(micro_usd_per_eth, "settings", clock.now())
            await asyncio.to_thread(quota.observe_rate, rate)
        except PersistenceError as problem:
            log.warning("rate_waits", problem=repr(problem))
            await asyncio.sleep(RATE_RETRY_SECONDS)
        else:
            await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(run(QuotaSettings()))
