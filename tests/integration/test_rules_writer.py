"""Quota's buckets of rules and stops: whoever begins to write them takes nothing out of them first."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import pytest
from nats.aio.client import Client

from contracts.limits import RULES, Scoped, scope_entry
from contracts.stops import STOPS, stop_entry
from services.quota.application import Quota
from services.quota.domain.limit_set import Author, Scope
from services.quota.domain.limits import Limits
from services.quota.domain.stops import StopKind
from services.quota.limiting import Limiting
from services.quota.outbox import QuotaOutbox
from services.quota.rules import RulesWriter
from services.quota.stopping import Stopping
from shared.bucket import BucketReader, BucketWriter
from shared.bus import connect
from shared.log import PublicLog
from shared.money import Wei
from shared.store import postgres_env
from tests import infra
from tests.beside import running, until
from tests.infra import Database

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
AUTHOR = Author("admin", "test")
STOP = (StopKind.KEY, "key-1")
STOP_ENTRY = stop_entry("key", "key-1")
RULES_ENTRY = scope_entry(Scoped(account_id="acme"))
TAKEN_OVER_SECONDS = 3  # a new writer has written everything long before


@pytest.fixture
async def client(nats: infra.Nats) -> AsyncIterator[Client]:
    client = await connect("admin", nats.url())
    for bucket in (RULES, STOPS):
        await client.jetstream().create_key_value(bucket=bucket, history=1)
    yield client
    for bucket in (RULES, STOPS):
        await client.jetstream().delete_key_value(bucket)
    await client.close()


@pytest.fixture
def quota(database: Callable[..., Database]) -> Iterator[Quota]:
    env = dict(postgres_env(database("quota").dsn("quota"), "quota", create_tables=True))
    quota = Quota(Wei(1000), env)
    quota.create_tables()
    yield quota
    quota.close()


@asynccontextmanager
async def writing(quota: Quota, client: Client) -> AsyncIterator[None]:
    """The one process that writes both buckets."""
    log = PublicLog(quota, QuotaOutbox(quota))
    log.create_tables()
    writer = RulesWriter(quota.rules, log, *(BucketWriter(client, bucket) for bucket in (RULES, STOPS)))
    task = asyncio.create_task(writer.run())
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@asynccontextmanager
async def reading(client: Client) -> AsyncIterator[tuple[BucketReader, BucketReader]]:
    readers = BucketReader(client, RULES), BucketReader(client, STOPS)
    async with running(*(reader.run() for reader in readers)):
        yield readers


async def test_whoever_takes_over_leaves_every_stop_and_rule_in_force(client: Client, quota: Quota) -> None:
    limiting, stopping = Limiting(quota), Stopping(quota)
    stopping.set_stops([STOP], AUTHOR, expires_at=None, now=NOW)
    limiting.set_limits(Scope("acme"), Limits(apps=["an/app"]), AUTHOR, NOW)

    async with reading(client) as (rules, stops):

        def in_force() -> bool:
            return stops.get(STOP_ENTRY) is not None and rules.get(RULES_ENTRY) is not None

        async with writing(quota, client):
            await until(in_force)
        lost = 0
        async with writing(quota, client), asyncio.timeout(20):
            ends_at = asyncio.get_running_loop().time() + TAKEN_OVER_SECONDS
            while asyncio.get_running_loop().time() < ends_at:
                lost += not in_force()
                await asyncio.sleep(0.001)
            stopping.lift_stops([STOP], AUTHOR, NOW)
            await until(lambda: stops.get(STOP_ENTRY) is None)  # it is the one who writes

    assert lost == 0
