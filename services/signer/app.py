"""The signer's composition root: `python -m services.signer.app`.

Its relay is a process of its own (`services.signer.relay`) wherever load matters: SIGNER_RELAY=false.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import structlog
import uvloop
from eventsourcing.persistence import PersistenceError
from faststream.nats import NatsBroker
from faststream.nats.subscriber.usecases import LogicSubscriber
from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from contracts.deposit_watcher import CHAIN
from contracts.limits import RULES
from contracts.signer import GeneratePayments
from contracts.stops import STOPS
from services.signer import handlers
from services.signer.application import Signing
from services.signer.chain_view import WatchedChain
from services.signer.keys import KeyFileError, LocalKey, from_development_file, from_keystore
from services.signer.outbox import SignerOutbox
from services.signer.payer import Payer
from services.signer.recovery import recovering
from services.signer.settings import SignerSettings
from services.signer.state import StateSeal
from services.signer.watched_rules import WatchedRules
from shared import logging
from shared.bucket import BucketReader
from shared.bus import connect, connection_options, make_broker
from shared.clock import Clock
from shared.log import PublicLog
from shared.relay import Relay
from shared.service import Check, Task, serve, store_answers
from shared.store import postgres_env

FENCE_SECONDS = 1.0
READY_POLL_SECONDS = 0.05
DRAIN_SECONDS = 2.0

log = structlog.get_logger()


def load_keys(settings: SignerSettings) -> list[LocalKey]:
    """Raise KeyFileError if there is none, or one of them cannot be used."""
    keystores, passwords = settings.keystore_path, settings.keystore_password_path
    if keystores and len(passwords) not in {1, len(keystores)}:
        raise KeyFileError(
            "SIGNER_KEYSTORE_PASSWORD_PATH: one password file for each keystore, or one for all"
        )
    keys = [
        from_keystore(keystore, passwords[min(place, len(passwords) - 1)])
        for place, keystore in enumerate(keystores)
    ] or [from_development_file(path) for path in settings.development_key_path]
    if not keys:
        raise KeyFileError("SIGNER_KEYSTORE_PATH and SIGNER_KEYSTORE_PASSWORD_PATH are not set")
    return keys


async def run(settings: SignerSettings) -> None:
    logging.configure("signer", settings.log_level)
    clock = settings.clock()
    url, dsn = settings.nats_url.get_secret_value(), settings.postgres_dsn.get_secret_value()
    client = await connect("signer", url)
    bucket, rules_bucket, stops_bucket = (BucketReader(client, each) for each in (CHAIN, RULES, STOPS))
    rules = WatchedRules(rules_bucket, stops_bucket)
    stale = timedelta(seconds=settings.chain_stale_seconds)
    payers = [
        Payer(key, WatchedChain(bucket, "0x" + key.address.hex(), clock, stale))
        for key in load_keys(settings)
    ]
    signing = Signing(
        payers,
        StateSeal(settings.seal_keys()),
        settings.limits(),
        postgres_env(dsn, "signer", create_tables=settings.create_tables),
        adopts_foreign_states=settings.adopt_foreign_states,
        permits=rules,
    )
    informed = partial(is_informed, payers, rules)
    public_log = PublicLog(signing, SignerOutbox(signing))
    if settings.create_tables:
        public_log.create_tables()

    broker = make_broker("signer", url)
    hot_broker = NatsBroker(url.split(","), logger=None, apply_types=False, **connection_options("signer"))
    payments = handlers.Payments(signing, hot_broker, client, clock, settings.quota_timeout_seconds)
    broker.include_router(handlers.router)
    for name, value in {"signing": signing, "clock": clock, "public_log": public_log}.items():
        broker.context.set_global(name, value)
    tasks: list[Task] = [
        bucket.run,
        rules_bucket.run,
        stops_bucket.run,
        partial(_watch_fence, signing, clock),
        partial(_serve_payments, hot_broker, payments, settings.partition, informed),
    ]
    if settings.relay:
        tasks.append(_relay(settings, signing, public_log, client).run)
    server = serve(
        brokers=[broker],
        client=client,
        host=settings.http_host,
        port=settings.http_port,
        tasks=tasks,
        checks=[partial(store_answers, public_log.marks), informed],
        on_stop=signing.close,
    )
    await server.serve()


def _relay(settings: SignerSettings, signing: Signing, public_log: PublicLog, client: Client) -> Relay:
    return Relay(
        "signer",
        settings.postgres_dsn.get_secret_value(),
        public_log,
        client,
        recover=recovering(signing, settings.clock()),
        standby_is_synchronous=settings.standby_is_synchronous,
    )


async def _serve_payments(
    broker: NatsBroker, payments: handlers.Payments, partition: int, informed: Check
) -> None:
    """The hot path: no validation, no dependency injection, no logger, one message at a time.

    It begins when chain and rules are known: until then, and from the moment this process is told to stop,
    the edge finds nobody here and asks another partition's signer.
    """
    subject = f"{GeneratePayments.subject}.{partition}"
    subscriber = broker.subscriber(
        subject, queue="signer", max_workers=1, decoder=handlers.read_batch, no_reply=True
    )
    subscriber(payments.answer)
    log.info("payments_wait", needed="rules, stops and chain")
    while not await informed():
        await asyncio.sleep(READY_POLL_SECONDS)
    await broker.start()
    log.info("payments_served", partition=partition)
    try:
        await asyncio.Event().wait()
    finally:
        with contextlib.suppress(NatsError, TimeoutError):
            await drain(subscriber)
        await payments.finish()
        await broker.stop()


async def drain(subscriber: LogicSubscriber[Any]) -> None:
    """Take no more messages, and answer those that came; the library's own stop drops them."""
    subscription = getattr(subscriber, "subscription", None)
    if isinstance(subscription, Subscription):
        subscriber.subscription = None  # the library shall not end it again
        await asyncio.wait_for(subscription.drain(), DRAIN_SECONDS)


async def is_informed(payers: Sequence[Payer], rules: WatchedRules) -> bool:
    """Whether rules and chain are known; one payer without funds must not stop the others."""
    return rules.known and any(payer.chain() is not None for payer in payers)


async def _watch_fence(signing: Signing, clock: Clock) -> None:
    while True:
        try:
            signing.refresh_fences(clock.now())
        except PersistenceError as problem:
            log.warning("fence_unread", problem=repr(problem))
        await asyncio.sleep(FENCE_SECONDS)


if __name__ == "__main__":
    uvloop.run(run(SignerSettings()))
