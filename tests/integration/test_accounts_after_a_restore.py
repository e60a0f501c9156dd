"""A real database of accounts goes back in time: what was withdrawn since stays withdrawn."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import psycopg
import pytest
from nats.aio.client import Client
from psycopg.sql import SQL, Identifier

from contracts.accounts import (
    IDENTITIES,
    AccountView,
    ApiKeyView,
    Identity,
    IssueApiKey,
    OpenAccount,
    ResumeAccount,
    RevokeApiKey,
    SuspendAccount,
)
from contracts.message import Command, Message
from shared.bucket import BucketReader
from shared.bus import ServiceUnavailableError, ask, connect
from tests import infra
from tests.integration.service_process import bus_user, provision_accounts, service
from tilt.slot import Slot

pytestmark = pytest.mark.anyio

NATS_USERS = (bus_user("accounts"), bus_user("edge"))
HASH = "cd" * 32
WAIT_SECONDS = 30
WITHDRAWN = {
    "revoked": "revoked",
    "suspended": "suspended",
    "resumed": "active",
    "untouched": "active",
    "lost": None,  # its key was issued after the backup
}


@dataclass
class World:
    postgres: infra.Postgres
    nats: infra.Nats
    slot: Slot
    database: infra.Database
    edge: Client

    @asynccontextmanager
    async def accounts(self) -> AsyncIterator[None]:
        settings = {
            "POSTGRES_DSN": self.database.dsn("accounts"),
            "NATS_URL": self.nats.url("accounts"),
            "CREATE_TABLES": "true",
        }
        log = self.slot.directory / "restored-accounts.log"
        async with service("accounts", self.slot.port("accounts"), settings, log):
            yield

    def back_up(self) -> str:
        """Copy the database as it is; nobody may be connected."""
        backup = f"{self.database.name}_backup"
        self._execute("CREATE DATABASE {1} TEMPLATE {0}", backup)
        return backup

    def restore(self, backup: str) -> None:
        self._execute("DROP DATABASE {0} WITH (FORCE)", backup)
        self._execute("ALTER DATABASE {1} RENAME TO {0}", backup)
        self._execute("GRANT CONNECT, TEMPORARY ON DATABASE {0} TO accounts", backup)

    def _execute(self, query: str, backup: str) -> None:
        with psycopg.connect(self.postgres.admin_dsn, autocommit=True) as connection:
            connection.execute(SQL(query).format(Identifier(self.database.name), Identifier(backup)))

    async def open(self, account_id: str) -> str:
        """Open an account and give it a key; returns the key's id."""
        await self.command(OpenAccount(account_id=account_id), AccountView)
        return await self.issue(account_id)

    async def issue(self, account_id: str) -> str:
        key_id = secrets.token_hex(6)
        command = IssueApiKey(account_id=account_id, key_id=key_id, secret_hash=HASH)
        await self.command(command, ApiKeyView)
        return key_id

    async def command[Reply: Message](self, command: Command, reply: type[Reply]) -> Reply:
        """Have it carried out; who is ready may still wait for the lease, and answers nobody."""
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                try:
                    return await ask(self.edge, command, reply)
                except ServiceUnavailableError:
                    await asyncio.sleep(0.1)


@pytest.fixture
async def world(postgres: infra.Postgres, nats: infra.Nats, slot: Slot) -> AsyncIterator[World]:
    admin, edge = await connect("admin", nats.url()), await connect("edge", nats.url("edge"))
    await provision_accounts(admin)
    with postgres.database("accounts") as database:
        yield World(postgres, nats, slot, database, edge)
    await edge.close()
    await admin.close()


async def test_what_was_withdrawn_after_the_backup_stays_withdrawn(world: World) -> None:
    async with world.accounts():
        keys = {name: await world.open(name) for name in ("revoked", "suspended", "resumed", "untouched")}
    backup = await asyncio.to_thread(world.back_up)
    async with world.accounts():
        key = RevokeApiKey(account_id="revoked", key_id=keys["revoked"])
        await world.command(key, ApiKeyView)
        for name in ("suspended", "resumed"):
            await world.command(SuspendAccount(account_id=name, reason="unpaid"), AccountView)
        await world.command(ResumeAccount(account_id="resumed"), AccountView)
        keys["lost"] = await world.issue("untouched")
    await asyncio.to_thread(world.restore, backup)

    async with world.accounts():
        assert await read_identities(world.edge, keys) == WITHDRAWN


async def read_identities(edge: Client, keys: dict[str, str]) -> dict[str, str | None]:
    """What the edge authenticates from, once it is as it should be, or in the end."""
    bucket = BucketReader(edge, IDENTITIES)
    following = asyncio.create_task(bucket.run())

    def statuses() -> dict[str, str | None]:
        entries = {name: bucket.get(key_id) for name, key_id in keys.items()}
        return {
            name: Identity.model_validate_json(entry).status if entry else None
            for name, entry in entries.items()
        }

    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(WAIT_SECONDS):
                while not bucket.ready or statuses() != WITHDRAWN:
                    await asyncio.sleep(0.05)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    return statuses()
