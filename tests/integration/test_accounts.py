"""Accounts as a process, on real PostgreSQL and NATS, with the permissions of production."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from nats.aio.client import Client

from contracts import accounts as contract
from contracts.message import Command, Fault, LogEntry, LogPage, ReadLog, Refusal, read_log_subject
from services.accounts import rebuild
from services.accounts.application import Accounts
from services.accounts.directory import PostgresDirectory
from shared.bucket import BucketReader
from shared.bus import CommandRefusedError, ask, connect, read_reply
from shared.store import postgres_env
from tests import infra
from tests.integration.service_process import bus_user, provision_accounts, service
from tilt.slot import Slot

pytestmark = pytest.mark.anyio

NATS_USERS = (bus_user("accounts"), bus_user("edge"), bus_user("quota"))
HASH = "ab" * 32


@dataclass
class World:
    edge: Client
    admin: Client
    bucket: BucketReader
    dsn: str


@pytest.fixture
async def world(
    database: Callable[..., infra.Database], nats: infra.Nats, slot: Slot, directory: Path
) -> AsyncIterator[World]:
    admin = await connect("admin", nats.url())
    await provision_accounts(admin)
    dsn = database("accounts").dsn("accounts")
    settings = {"POSTGRES_DSN": dsn, "NATS_URL": nats.url("accounts"), "CREATE_TABLES": "true"}
    edge = await connect("edge", nats.url("edge"))
    bucket = BucketReader(edge, contract.IDENTITIES)
    async with service("accounts", slot.port("accounts"), settings, directory / "accounts.log"):
        following = asyncio.create_task(bucket.run())
        await until(lambda: bucket.ready)
        yield World(edge, admin, bucket, dsn)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    await edge.close()
    await admin.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 (another process tells no event)
            await asyncio.sleep(0.01)


async def open_account(world: World, account_id: str) -> contract.AccountView:
    return await ask(world.edge, contract.OpenAccount(account_id=account_id), contract.AccountView)


async def issue(world: World, key_id: str, account_id: str = "acme") -> contract.ApiKeyView:
    command = contract.IssueApiKey(account_id=account_id, key_id=key_id, secret_hash=HASH)
    return await ask(world.edge, command, contract.ApiKeyView)


def identity(world: World, key_id: str) -> contract.Identity | None:
    entry = world.bucket.get(key_id)
    return contract.Identity.model_validate_json(entry) if entry else None


async def test_a_key_is_in_the_bucket_when_its_command_is_answered(world: World) -> None:
    await open_account(world, "acme")
    await issue(world, "keyNumberOne")
    await until(lambda: world.bucket.get("keyNumberOne") is not None)

    assert identity(world, "keyNumberOne") == contract.Identity(
        key_id="keyNumberOne", account_id="acme", user_id=None, secret_hash=HASH, status="active"
    )


async def test_a_suspension_reaches_each_key_and_a_revocation_stays(world: World) -> None:
    await open_account(world, "acme")
    for key_id in ("keyNumberOne", "keyNumberTwo"):
        await issue(world, key_id)
    revoke = contract.RevokeApiKey(account_id="acme", key_id="keyNumberOne")
    await ask(world.edge, revoke, contract.ApiKeyView)

    suspend = contract.SuspendAccount(account_id="acme", reason="unpaid")
    assert (await ask(world.edge, suspend, contract.AccountView)).status == "suspended"

    def statuses() -> list[str]:
        found = [identity(world, key_id) for key_id in ("keyNumberOne", "keyNumberTwo")]
        return [entry.status for entry in found if entry]

    await until(lambda: statuses() == ["revoked", "suspended"])
    await ask(world.edge, contract.ResumeAccount(account_id="acme"), contract.AccountView)
    await until(lambda: statuses() == ["revoked", "active"])


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (contract.SuspendAccount(account_id="nobody", reason="unpaid"), "account_not_found"),
        (contract.OpenAccount(account_id="No Good"), "bad_id"),
        (contract.FindIdentity(key_id="unknownKeyId"), "key_not_found"),
        (contract.RevokeApiKey(account_id="acme", key_id="unknownKeyId"), "key_not_found"),
        (contract.ListApiKeys(account_id="nobody"), "account_not_found"),
    ],
)
async def test_a_refusal_is_a_reply_with_a_code(world: World, command: Command, code: str) -> None:
    with pytest.raises(CommandRefusedError) as refused:
        await ask(world.edge, command, contract.AccountView)

    assert refused.value.refusal.code == code


@pytest.mark.parametrize("body", [b"not json", b"{}", b"[]", b'{"account_id": 7}', b"", b"\xff"])
async def test_an_unreadable_command_is_answered(world: World, body: bytes) -> None:
    message = await world.edge.request(contract.OpenAccount.subject, body, timeout=3)

    with pytest.raises(CommandRefusedError) as refused:
        read_reply(message.data, contract.AccountView)
    assert refused.value.refusal.code == "bad_command"


async def test_pages_of_accounts_and_keys(world: World) -> None:
    for account_id in ("cat", "ant", "bee"):
        await open_account(world, account_id)
    for key_id in ("keyNumberTwo", "keyNumberOne"):
        await issue(world, key_id, "ant")
    await issue(world, "keyNumberSix", "bee")

    first = await ask(world.edge, contract.ListAccounts(limit=2), contract.AccountPage)
    rest = await ask(world.edge, contract.ListAccounts(after="bee"), contract.AccountPage)
    keys = await ask(world.edge, contract.ListApiKeys(account_id="ant"), contract.ApiKeyPage)

    assert [view.account_id for view in first.accounts] == ["ant", "bee"]
    assert [view.account_id for view in rest.accounts] == ["cat"]
    assert [view.key_id for view in keys.keys] == ["keyNumberOne", "keyNumberTwo"]


async def test_the_log_is_relayed_and_readable_as_a_chain(world: World, nats: infra.Nats) -> None:
    subscription = await world.admin.subscribe("evt.accounts.>")
    await world.admin.flush()
    await open_account(world, "acme")
    await issue(world, "keyNumberOne")

    relayed = [LogEntry.model_validate_json((await subscription.next_msg(5)).data) for _ in range(2)]
    reader = await connect("quota", nats.url("quota"))
    subject = read_log_subject("accounts")
    page = await ask(reader, ReadLog(after=0), LogPage, subject=subject)
    await reader.close()

    assert page.entries == relayed
    assert [entry.previous_position for entry in page.entries] == [0, page.entries[0].position]
    assert page.entries[1].event == {"account_id": "acme", "key_id": "keyNumberOne", "user_id": None}


async def test_a_wiped_bucket_is_written_again(world: World) -> None:
    await open_account(world, "acme")
    await issue(world, "keyNumberOne")

    await world.admin.jetstream().purge_stream(f"KV_{contract.IDENTITIES}")
    await until(lambda: world.bucket.get("keyNumberOne") is not None and world.bucket.ready)
    await issue(world, "keyNumberTwo")

    await until(lambda: world.bucket.get("keyNumberTwo") is not None)
    assert identity(world, "keyNumberOne") is not None


async def test_a_second_process_waits_for_the_lease(
    world: World, nats: infra.Nats, slot: Slot, directory: Path
) -> None:
    await open_account(world, "acme")
    await issue(world, "keyNumberOne")
    settings = {"POSTGRES_DSN": world.dsn, "NATS_URL": nats.url("accounts")}

    second_log = directory / "second.log"
    second = service("accounts", slot.port("accounts2"), settings, second_log, ready_seconds=4)

    with pytest.raises(TimeoutError):
        await second.__aenter__()

    assert "lease_waits" in second_log.read_text()


async def test_racing_commands_lose_nothing(world: World) -> None:
    await open_account(world, "acme")
    key_ids = [f"keyNumber{n:03}" for n in range(40)]

    await asyncio.gather(*(issue(world, key_id) for key_id in key_ids))

    page = await ask(world.edge, contract.ListApiKeys(account_id="acme"), contract.ApiKeyPage)
    assert [view.key_id for view in page.keys] == key_ids
    await until(lambda: all(world.bucket.get(key_id) for key_id in key_ids))


async def test_the_directory_is_rebuilt_equal_from_the_log(world: World) -> None:
    for account_id in ("ant", "bee"):
        await open_account(world, account_id)
        await issue(world, f"keyNumber{account_id}", account_id)
    suspend = contract.SuspendAccount(account_id="bee", reason="unpaid")
    await ask(world.edge, suspend, contract.AccountView)
    before = rows(world.dsn)
    with psycopg.connect(world.dsn) as connection:
        connection.execute("DROP TABLE accounts.accounts, accounts.api_keys")

    accounts = Accounts(PostgresDirectory, postgres_env(world.dsn, "accounts", create_tables=False))
    written = rebuild.rebuild(accounts, PostgresDirectory(accounts))
    accounts.close()

    assert written == 4
    assert rows(world.dsn) == before


def rows(dsn: str) -> list[object]:
    with psycopg.connect(dsn) as connection:
        found = connection.execute("SELECT * FROM accounts.accounts ORDER BY 1").fetchall()
        return [*found, *connection.execute("SELECT * FROM accounts.api_keys ORDER BY 1").fetchall()]


async def test_a_command_while_the_store_is_gone_is_a_fault(world: World) -> None:
    with psycopg.connect(world.dsn) as connection:
        connection.execute("ALTER TABLE accounts.accounts RENAME TO gone")

    message = await world.edge.request(
        contract.GetAccount.subject, contract.GetAccount(account_id="acme").model_dump_json().encode()
    )

    assert Fault.model_validate_json(message.data).kind == "fault"
    with pytest.raises(ValueError, match="kind"):
        Refusal.model_validate_json(message.data)
