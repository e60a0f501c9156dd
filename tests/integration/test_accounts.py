"""Accounts as a process, on real PostgreSQL and NATS, with the permissions of production."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from contracts import accounts as contract
from contracts.message import Command, Fault, LogEntry, LogPage, ReadLog, Refusal, read_log_subject
from services.accounts.application import Accounts
from services.accounts.directory import PostgresDirectory
from services.accounts.replay import replay
from shared.bus import CommandRefusedError, ask, connect, read_reply
from shared.store import postgres_env
from tests import infra
from tests.beside import until
from tests.integration.accounts_world import (
    ACCOUNTS_USERS,
    DEFAULT,
    HASH,
    NOW,
    SECOND,
    THIRD,
    World,
    accounts_world,
    identity,
    issue,
    new_account,
    new_key_id,
    open_account,
)
from tests.integration.service_process import service
from tilt.slot import Slot

pytestmark = pytest.mark.anyio

NATS_USERS = ACCOUNTS_USERS
TABLES = ("accounts", "api_keys", "audit")


@pytest.fixture(scope="module")
async def world(postgres: infra.Postgres, nats: infra.Nats, slot: Slot) -> AsyncIterator[World]:
    async with accounts_world(postgres, nats, slot) as running:
        yield running


@pytest.fixture
async def account_id(world: World) -> str:
    """An account of the test's own."""
    return await new_account(world)


async def test_a_key_is_in_the_bucket_when_its_command_is_answered(world: World, account_id: str) -> None:
    key_id = await issue(world, account_id)

    stored = await world.admin.jetstream().get_last_msg(f"KV_{contract.IDENTITIES}", f"$KV.*.*.{key_id}")
    assert stored.data is not None
    assert contract.Identity.model_validate_json(stored.data) == contract.Identity(
        key_id=key_id,
        account_id=account_id,
        user_id=None,
        secret_hash=HASH,
        status="active",
        payer=DEFAULT,
    )
    await until(lambda: world.bucket.get(key_id) is not None)


async def test_a_suspension_reaches_each_key_and_a_revocation_stays(world: World, account_id: str) -> None:
    key_ids = [await issue(world, account_id) for _ in range(2)]
    revoke = contract.RevokeApiKey(account_id=account_id, key_id=key_ids[0])
    await ask(world.edge, revoke, contract.ApiKeyView)

    suspend = contract.SuspendAccount(account_id=account_id, reason="unpaid")
    assert (await ask(world.edge, suspend, contract.AccountView)).status == "suspended"

    def statuses() -> list[str]:
        found = [identity(world, key_id) for key_id in key_ids]
        return [entry.status for entry in found if entry]

    await until(lambda: statuses() == ["revoked", "suspended"])
    await ask(world.edge, contract.ResumeAccount(account_id=account_id), contract.AccountView)
    await until(lambda: statuses() == ["revoked", "active"])


async def test_a_rotation_leaves_each_issued_key_its_payer(world: World) -> None:
    opened = await ask(
        world.edge, contract.OpenAccount(account_id="rotated", payer=SECOND), contract.AccountView
    )
    first = await issue(world, "rotated")
    rotate = contract.SetPayer(account_id="rotated", payer=THIRD)
    rotated = await ask(world.edge, rotate, contract.AccountView)
    again = await ask(world.edge, rotate, contract.AccountView)
    second = await issue(world, "rotated")
    for change in (
        contract.SuspendAccount(account_id="rotated", reason="unpaid"),
        contract.ResumeAccount(account_id="rotated"),
    ):
        await ask(world.edge, change, contract.AccountView)

    keys = await ask(world.edge, contract.ListApiKeys(account_id="rotated"), contract.ApiKeyPage)
    found = await ask(world.edge, contract.FindIdentity(key_id=first), contract.Identity)

    assert (opened.payer, rotated.payer, again) == (SECOND, THIRD, rotated)
    assert {view.key_id: view.payer for view in keys.keys} == {first: SECOND, second: THIRD}
    assert found.payer == SECOND
    for key_id, payer in ((first, SECOND), (second, THIRD)):
        stored = await world.admin.jetstream().get_last_msg(f"KV_{contract.IDENTITIES}", f"$KV.*.*.{key_id}")
        assert contract.Identity.model_validate_json(stored.data or b"").payer == payer


async def test_a_payer_is_set_behind_the_back_of_another_process(world: World) -> None:
    """Each has the account in memory; what the other stored decides."""
    env = postgres_env(world.dsn, "accounts", create_tables=False)
    one, other = Accounts(PostgresDirectory, env), Accounts(PostgresDirectory, env)
    one.open_account("raced", payer=SECOND, at=NOW)
    other.issue_key(account_id="raced", key_id=new_key_id(), user_id=None, secret_hash=HASH, at=NOW)
    one.set_payer("raced", THIRD, at=NOW)

    issued = other.issue_key(account_id="raced", key_id=new_key_id(), user_id=None, secret_hash=HASH, at=NOW)

    for each in (one, other):
        each.close()
    assert issued.payer == THIRD


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (contract.SetPayer(account_id="nobody", payer=SECOND), "account_not_found"),
        (contract.SetPayer(account_id="nobody", payer="0xno"), "account_not_found"),
        (contract.OpenAccount(account_id="misspelt", payer="0xno"), "bad_id"),
        (contract.SuspendAccount(account_id="nobody", reason="unpaid"), "account_not_found"),
        (contract.OpenAccount(account_id="No Good"), "bad_id"),
        (contract.FindIdentity(key_id="unknownKeyId"), "key_not_found"),
        (contract.RevokeApiKey(account_id="nobody", key_id="unknownKeyId"), "key_not_found"),
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
    for account_id in ("page-c", "page-a", "page-b"):
        await open_account(world, account_id)
    key_ids = [await issue(world, "page-a") for _ in range(3)]
    await issue(world, "page-b")

    first = await ask(world.edge, contract.ListAccounts(after="page-", limit=2), contract.AccountPage)
    rest = await ask(world.edge, contract.ListAccounts(after="page-b", limit=1), contract.AccountPage)
    keys = await ask(world.edge, contract.ListApiKeys(account_id="page-a"), contract.ApiKeyPage)

    assert [view.account_id for view in first.accounts] == ["page-a", "page-b"]
    assert [view.account_id for view in rest.accounts] == ["page-c"]
    assert [view.key_id for view in keys.keys] == sorted(key_ids)


async def test_the_log_is_relayed_and_readable_as_a_chain(world: World, nats: infra.Nats) -> None:
    reader = await connect("quota", nats.url("quota"))
    subject = read_log_subject("accounts")
    before = (await ask(reader, ReadLog(after=0), LogPage, subject=subject)).head
    subscription = await world.admin.subscribe("evt.accounts.>")
    await world.admin.flush()
    await open_account(world, "relayed")
    key_id = await issue(world, "relayed")

    relayed: list[LogEntry] = []
    while len(relayed) < 2:
        entry = LogEntry.model_validate_json((await subscription.next_msg(5)).data)
        relayed += [entry] if entry.position > before else []
    page = await ask(reader, ReadLog(after=before), LogPage, subject=subject)
    await reader.close()
    await subscription.unsubscribe()

    assert page.entries == relayed
    assert [entry.previous_position for entry in page.entries] == [before, page.entries[0].position]
    opened, issued = (entry.event for entry in page.entries)
    unsaid = {"actor": "", "reason": ""}
    assert opened == {"account_id": "relayed", "payer": DEFAULT, **unsaid}
    assert issued == {"account_id": "relayed", "key_id": key_id, "user_id": None, "payer": DEFAULT, **unsaid}


async def test_a_wiped_bucket_is_written_again(world: World, account_id: str) -> None:
    first = await issue(world, account_id)

    await world.admin.jetstream().purge_stream(f"KV_{contract.IDENTITIES}")
    await until(lambda: world.bucket.get(first) is not None and world.bucket.ready)
    second = await issue(world, account_id)

    await until(lambda: world.bucket.get(second) is not None)
    assert identity(world, first) is not None


async def test_a_second_process_answers_probes_and_waits_for_the_lease(
    world: World, nats: infra.Nats, slot: Slot, directory: Path, account_id: str
) -> None:
    settings = {"POSTGRES_DSN": world.dsn, "NATS_URL": nats.url("accounts")}
    second_log = directory / "second.log"
    async with service("accounts", slot.port("accounts2"), settings, second_log):
        await issue(world, account_id)

    written = second_log.read_text()
    assert "lease_waits" in written
    assert "lease_taken" not in written


async def test_racing_commands_lose_nothing(world: World, account_id: str) -> None:
    key_ids = await asyncio.gather(*(issue(world, account_id) for _ in range(40)))

    page = await ask(world.edge, contract.ListApiKeys(account_id=account_id), contract.ApiKeyPage)
    assert [view.key_id for view in page.keys] == sorted(key_ids)
    await until(lambda: all(world.bucket.get(key_id) for key_id in key_ids))


async def test_the_last_word_of_crossing_commands_is_what_the_bucket_says(
    world: World, account_id: str
) -> None:
    key_id = await issue(world, account_id)
    suspend = contract.SuspendAccount(account_id=account_id, reason="unpaid")
    resume = contract.ResumeAccount(account_id=account_id)
    for _ in range(20):
        await asyncio.gather(*(ask(world.edge, one, contract.AccountView) for one in (suspend, resume)))
        view = await ask(world.edge, contract.GetAccount(account_id=account_id), contract.AccountView)
        wanted = "active" if view.status == "open" else "suspended"
        stored = await world.admin.jetstream().get_last_msg(f"KV_{contract.IDENTITIES}", f"$KV.*.*.{key_id}")

        assert contract.Identity.model_validate_json(stored.data or b"").status == wanted


async def test_the_directory_is_rebuilt_equal_from_the_log(world: World, account_id: str) -> None:
    await issue(world, account_id)
    suspend = contract.SuspendAccount(account_id=account_id, reason="unpaid")
    await ask(world.edge, suspend, contract.AccountView)
    before = rows(world.dsn)
    with psycopg.connect(world.dsn) as connection:
        connection.execute("DROP TABLE accounts.accounts, accounts.api_keys, accounts.audit")

    replay.rebuild(world.dsn)

    assert replay.verify(world.dsn).differing == {}
    assert rows(world.dsn) == before


def rows(dsn: str) -> list[object]:
    with psycopg.connect(dsn) as connection:
        tables = (SQL("SELECT * FROM accounts.{} ORDER BY 1").format(Identifier(name)) for name in TABLES)
        return [row for table in tables for row in connection.execute(table)]


async def test_tables_from_before_there_were_payers_are_kept(world: World, account_id: str) -> None:
    key_id = await issue(world, account_id)
    with psycopg.connect(world.dsn) as connection:
        connection.execute("ALTER TABLE accounts.accounts DROP COLUMN payer")
        connection.execute("ALTER TABLE accounts.api_keys DROP COLUMN payer")

    accounts = Accounts(PostgresDirectory, postgres_env(world.dsn, "accounts", create_tables=False))
    directory = PostgresDirectory(accounts)
    directory.create_tables()
    kept = directory.identity(key_id)
    replay.rebuild(world.dsn)
    rebuilt = directory.identity(key_id)
    accounts.close()

    assert kept is not None
    assert rebuilt is not None
    assert (kept.secret_hash, kept.payer) == (HASH, None)
    assert rebuilt.payer == DEFAULT


async def test_a_command_while_the_store_is_gone_is_a_fault(world: World) -> None:
    with psycopg.connect(world.dsn) as connection:
        connection.execute("ALTER TABLE accounts.accounts RENAME TO gone")

    message = await world.edge.request(
        contract.GetAccount.subject, contract.GetAccount(account_id="acme").model_dump_json().encode()
    )

    with psycopg.connect(world.dsn) as connection:
        connection.execute("ALTER TABLE accounts.gone RENAME TO accounts")

    assert Fault.model_validate_json(message.data).kind == "fault"
    with pytest.raises(ValueError, match="kind"):
        Refusal.model_validate_json(message.data)
