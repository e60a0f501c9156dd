"""Accounts as a process, on real PostgreSQL and NATS, with the permissions of production."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from eventsourcing.persistence import IntegrityError
from nats.aio.client import Client
from psycopg.sql import SQL, Identifier

from contracts import accounts as contract
from contracts.audit import AuditPage, AuditRow, ReadAudit, read_audit_subject
from contracts.message import Command, Fault, LogEntry, LogPage, ReadLog, Refusal, read_log_subject
from services.accounts.application import Accounts
from services.accounts.directory import PostgresDirectory
from services.accounts.domain.accounts import Author
from services.accounts.replay import replay
from shared.bucket import BucketReader
from shared.bus import CommandRefusedError, ask, connect, read_reply
from shared.store import postgres_env
from tests import infra
from tests.integration.service_process import bus_user, provision_accounts, service
from tilt.slot import Slot

pytestmark = pytest.mark.anyio

NOW = datetime(2031, 5, 17, 8, 30, tzinfo=UTC)
NATS_USERS = (bus_user("accounts"), bus_user("edge"), bus_user("quota"))
HASH = "ab" * 32
TABLES = ("accounts", "api_keys", "audit")
DEFAULT, SECOND, THIRD = ("0x" + digits * 20 for digits in ("1a", "2b", "3c"))


@dataclass
class World:
    edge: Client
    admin: Client
    bucket: BucketReader
    dsn: str


@pytest.fixture(scope="module")
async def world(postgres: infra.Postgres, nats: infra.Nats, slot: Slot) -> AsyncIterator[World]:
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


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def open_account(world: World, account_id: str) -> contract.AccountView:
    return await ask(world.edge, contract.OpenAccount(account_id=account_id), contract.AccountView)


async def issue(world: World, account_id: str) -> str:
    key_id = new_key_id()
    command = contract.IssueApiKey(account_id=account_id, key_id=key_id, secret_hash=HASH)
    view = await ask(world.edge, command, contract.ApiKeyView)
    assert view.status == "active"
    return key_id


def identity(world: World, key_id: str) -> contract.Identity | None:
    entry = world.bucket.get(key_id)
    return contract.Identity.model_validate_json(entry) if entry else None


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


async def read_audit(
    world: World, *, account_id: str | None = None, before: int | None = None, limit: int = 50
) -> list[AuditRow]:
    asked = ReadAudit(account_id=account_id, before=before, limit=limit)
    return (await ask(world.edge, asked, AuditPage, subject=read_audit_subject("accounts"))).rows


async def test_who_changed_what_and_why_is_told_newest_first(world: World, nats: infra.Nats) -> None:
    said = {"actor": "admin:0a1b2c3d", "reason": "asked_for"}
    commands = (
        contract.OpenAccount(account_id="audited", **said),
        contract.SuspendAccount(account_id="audited", reason="unpaid", actor="admin:0a1b2c3d"),
        contract.SuspendAccount(account_id="audited", reason="abuse", actor="admin:ffffffff"),
        contract.ResumeAccount(account_id="audited"),
        contract.SetPayer(account_id="audited", payer=SECOND, **said),
    )
    for command in commands:
        await ask(world.edge, command, contract.AccountView)
    issue = contract.IssueApiKey(account_id="audited", key_id="auditedKeyId", secret_hash=HASH, **said)
    await ask(world.edge, issue, contract.ApiKeyView)
    revoke = contract.RevokeApiKey(account_id="audited", key_id="auditedKeyId", **said)
    await ask(world.edge, revoke, contract.ApiKeyView)

    rows = await read_audit(world, account_id="audited")
    reader = await connect("quota", nats.url("quota"))
    log = await ask(
        reader, ReadLog(after=rows[-1].position - 1), LogPage, subject=read_log_subject("accounts")
    )
    await reader.close()

    assert [(row.action, row.actor, row.reason, row.details) for row in reversed(rows)] == [
        ("account_opened", "admin:0a1b2c3d", "asked_for", {"payer": DEFAULT}),
        ("account_suspended", "admin:0a1b2c3d", "unpaid", {}),
        ("account_resumed", "", "", {}),
        ("account_payer_set", "admin:0a1b2c3d", "asked_for", {"payer": SECOND}),
        (
            "api_key_issued",
            "admin:0a1b2c3d",
            "asked_for",
            {"key_id": "auditedKeyId", "payer": SECOND, "user_id": None},
        ),
        ("api_key_revoked", "admin:0a1b2c3d", "asked_for", {"key_id": "auditedKeyId"}),
    ]
    assert [(row.position, row.at) for row in reversed(rows)] == [
        (entry.position, entry.at) for entry in log.entries
    ]
    assert not any(HASH in row.model_dump_json() for row in rows)


async def test_pages_of_the_audit_follow_one_another(world: World, account_id: str) -> None:
    for _ in range(3):
        await issue(world, account_id)
    whole = await read_audit(world, limit=500)

    first = await read_audit(world, limit=2)
    rest = await read_audit(world, before=first[-1].position, limit=500)

    assert first + rest == whole
    assert [row.position for row in whole] == sorted((row.position for row in whole), reverse=True)
    assert {row.account_id for row in await read_audit(world, account_id=account_id)} == {account_id}


async def test_changes_that_cross_have_the_positions_of_their_events(world: World, account_id: str) -> None:
    """Two processes, and saves that fail between: whoever saves draws positions the other has not seen."""
    env = postgres_env(world.dsn, "accounts", create_tables=False)
    others = [Accounts(PostgresDirectory, env) for _ in range(2)]

    def issue_some(accounts: Accounts) -> int:
        issued = 0
        for _ in range(20):
            with contextlib.suppress(IntegrityError):
                key_id, author = new_key_id(), Author("here")
                accounts.issue_key(
                    account_id=account_id, key_id=key_id, user_id=None, secret_hash=HASH, at=NOW, by=author
                )
                issued += 1
        return issued

    issued = await asyncio.gather(*(asyncio.to_thread(issue_some, accounts) for accounts in others))

    for accounts in others:
        accounts.close()
    assert replay.verify(world.dsn).differing == {}
    assert len(await read_audit(world, account_id=account_id)) == 1 + sum(issued)


async def test_a_wrong_row_of_the_audit_is_found_and_made_right(world: World, account_id: str) -> None:
    [row] = await read_audit(world, account_id=account_id)
    with psycopg.connect(world.dsn) as connection:
        connection.execute("UPDATE accounts.audit SET actor = 'forged' WHERE position = %s", [row.position])

    assert replay.verify(world.dsn).differing == {"audit": [str(row.position)]}
    replay.rebuild(world.dsn)

    assert await read_audit(world, account_id=account_id) == [row]


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
