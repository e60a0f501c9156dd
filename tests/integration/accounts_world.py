"""Accounts as a process, on real PostgreSQL and NATS, with what an edge does to it and sees of it."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from nats.aio.client import Client

from contracts import accounts as contract
from shared.bucket import BucketReader
from shared.bus import ask, connect
from tests import infra
from tests.beside import until
from tests.integration.service_process import bus_user, provision_accounts, service
from tilt.slot import Slot

ACCOUNTS_USERS = (bus_user("accounts"), bus_user("edge"), bus_user("quota"))
NOW = datetime(2031, 5, 17, 8, 30, tzinfo=UTC)
HASH = "ab" * 32
DEFAULT, SECOND, THIRD = ("0x" + digits * 20 for digits in ("1a", "2b", "3c"))


@dataclass
class World:
    edge: Client
    admin: Client
    bucket: BucketReader
    dsn: str


@asynccontextmanager
async def accounts_world(postgres: infra.Postgres, nats: infra.Nats, slot: Slot) -> AsyncIterator[World]:
    directory = slot.directory / "accounts"
    directory.mkdir(exist_ok=True)
    admin, edge = await connect("admin", nats.url()), await connect("edge", nats.url("edge"))
    await provision_accounts(admin)
    bucket = BucketReader(edge, contract.IDENTITIES)
    with postgres.database("accounts") as database:
        dsn = database.dsn("accounts")
        settings = {
            "POSTGRES_DSN": dsn,
            "NATS_URL": nats.url("accounts"),
            "CREATE_TABLES": "true",
            "DEFAULT_PAYER": DEFAULT.upper().replace("X", "x"),
        }
        async with service("accounts", slot.port("accounts"), settings, directory / "accounts.log"):
            following = asyncio.create_task(bucket.run())
            await until(lambda: bucket.ready)
            yield World(edge, admin, bucket, dsn)
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
    await edge.close()
    await admin.close()


@pytest.fixture
async def account_id(world: World) -> str:
    """An account of the test's own."""
    made = f"account-{secrets.token_hex(4)}"
    await open_account(world, made)
    return made


def new_key_id() -> str:
    return secrets.token_hex(6)


async def open_account(world: World, account_id: str) -> contract.AccountView:
    return await ask(world.edge, contract.OpenAccount(account_id=account_id), contract.AccountView)


async def new_account(world: World) -> str:
    made = f"account-{secrets.token_hex(4)}"
    await open_account(world, made)
    return made


async def issue(world: World, account_id: str) -> str:
    key_id = new_key_id()
    command = contract.IssueApiKey(account_id=account_id, key_id=key_id, secret_hash=HASH)
    view = await ask(world.edge, command, contract.ApiKeyView)
    assert view.status == "active"
    return key_id


def identity(world: World, key_id: str) -> contract.Identity | None:
    entry = world.bucket.get(key_id)
    return contract.Identity.model_validate_json(entry) if entry else None
