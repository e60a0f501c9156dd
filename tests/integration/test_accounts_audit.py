"""Who changed what of which account, and why: told by accounts as a process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import psycopg
import pytest
from eventsourcing.persistence import IntegrityError

from contracts import accounts as contract
from contracts.audit import AuditPage, AuditRow, ReadAudit, read_audit_subject
from contracts.message import LogPage, ReadLog, read_log_subject
from services.accounts.application import Accounts
from services.accounts.directory import PostgresDirectory
from services.accounts.domain.accounts import Author
from services.accounts.replay import replay
from shared.bus import ask, connect
from shared.store import postgres_env
from tests import infra
from tests.integration.accounts_world import (
    ACCOUNTS_USERS,
    DEFAULT,
    HASH,
    NOW,
    SECOND,
    World,
    accounts_world,
    issue,
    new_account,
    new_key_id,
)
from tilt.slot import Slot

pytestmark = pytest.mark.anyio

NATS_USERS = ACCOUNTS_USERS


@pytest.fixture(scope="module")
async def world(postgres: infra.Postgres, nats: infra.Nats, slot: Slot) -> AsyncIterator[World]:
    async with accounts_world(postgres, nats, slot) as running:
        yield running


@pytest.fixture
async def account_id(world: World) -> str:
    """An account of the test's own."""
    return await new_account(world)


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
