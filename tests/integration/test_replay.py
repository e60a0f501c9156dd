"""`clearinghouse replay`: what a service keeps beside its log is what the log says, or it is named."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from threading import Thread

import psycopg
import pytest

from contracts.accounts import AccountSuspended, ApiKeyRevoked
from contracts.deposit_watcher import FundsObserved
from contracts.message import Event, LogEntry
from contracts.streams import PUBLISHERS
from services.accounts.application import Accounts
from services.accounts.directory import PostgresDirectory
from services.quota.application import Quota
from services.quota.domain.budget import Budget
from services.quota.replay import replay as quota_replay
from services.signer.application import Signing
from services.signer.domain.session import PaymentSession
from services.signer.replay import replay as signer_replay
from shared.meter import Progress
from shared.money import Wei
from shared.store import postgres_env
from tests.faults.chain.customers import PAYER, START, Market, signer
from tests.infra import Database

NOW = datetime(2031, 5, 17, 8, 30, tzinfo=UTC)


@dataclass
class Paid:
    """A signer and a quota after some hundred payments, with snapshots on the way."""

    database: Database
    signing: Signing
    quota: Quota
    market: Market


@pytest.fixture
def paid(database: Callable[..., Database], monkeypatch: pytest.MonkeyPatch) -> Iterator[Paid]:
    monkeypatch.setattr(Signing, "snapshotting_intervals", {PaymentSession: 4})
    monkeypatch.setattr(Quota, "snapshotting_intervals", {Budget: 5})
    made = database("signer", "quota")
    signer_env = dict(postgres_env(made.dsn("signer"), "signer", create_tables=True))
    with ExitStack() as stack:
        signing = stack.enter_context(signer(signer_env))
        quota = Quota(Wei(10**18), postgres_env(made.dsn("quota"), "quota", create_tables=True))
        stack.enter_context(quota)
        quota.create_tables()
        funds = FundsObserved(
            payer=PAYER,
            deposit=10**18,
            reserve=1,
            withdraw_round=0,
            pool_size=1,
            l1_block=1,
            block_hash="0x",
        )
        quota.follow_funds([entry(funds)], lambda _: None)
        market = Market((signing, signing), quota, Random(5))
        market.pay(16)
        yield Paid(made, signing, quota, market)


def entry(event: Event) -> LogEntry:
    return LogEntry(
        epoch=1,
        position=1,
        previous_position=0,
        subject=event.subject,
        at=START,
        event=event.model_dump(mode="json"),
    )


def execute(database: Database, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(database.dsn()) as connection:
        cursor = connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


def silently(_: Progress) -> None:
    pass


def clearinghouse(database: Database, service: str, *options: str) -> subprocess.CompletedProcess[str]:
    dsn = {f"{service.upper()}_POSTGRES_DSN": database.dsn(service)}
    command = [sys.executable, "-m", "services.cli", "replay", service, *options]
    environment = {"PATH": os.environ["PATH"], **dsn}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_snapshots_are_what_their_events_say(paid: Paid) -> None:
    snapshots = execute(paid.database, "SELECT count(*) FROM signer.signer_snapshots")

    report = signer_replay.verify(paid.database.dsn("signer"), silently)

    assert snapshots > [(5,)]
    assert report.differing == {}
    assert report.events == execute(paid.database, "SELECT count(*) FROM signer.signer_events")[0][0]


def test_a_wrong_snapshot_is_named_and_dropped(paid: Paid) -> None:
    dsn = paid.database.dsn("signer")
    [(unique, version)] = execute(
        paid.database,
        "UPDATE signer.signer_snapshots SET state = convert_to(regexp_replace("
        "convert_from(state, 'UTF8'), '\"spent\":', '\"spent\":1'), 'UTF8')"
        " WHERE (originator_id, originator_version) = (SELECT originator_id, originator_version"
        " FROM signer.signer_snapshots ORDER BY 1, 2 LIMIT 1) RETURNING originator_id, originator_version",
    )

    before = signer_replay.verify(dsn, silently)
    signer_replay.rebuild(dsn, silently)
    after = signer_replay.verify(dsn, silently)

    assert before.differing == {"snapshots": [f"{unique} {version}"]}
    assert after.differing == {}
    assert after.state == before.state


def test_a_snapshot_between_a_refusal_and_the_next_payment_keeps_its_times(paid: Paid) -> None:
    session = PaymentSession("acme", "s" * 32, timestamp=NOW)
    for number in range(3):
        session.record_refusal(status=402, reason=f"limit-{number}", message="m", now=NOW)
    paid.signing.save(session)
    paid.signing.forget(session.id)

    restored = paid.signing.session("acme", "s" * 32)

    assert restored.refused_at == session.refused_at
    assert signer_replay.verify(paid.database.dsn("signer"), silently).differing == {}


def test_allowances_and_payers_are_told_by_quotas_events(paid: Paid) -> None:
    dsn = paid.database.dsn("quota")
    suspended = AccountSuspended(account_id="acme", reason="unpaid")
    revoked = ApiKeyRevoked(account_id="bolt", key_id="key-1")
    for told in (suspended, revoked):
        paid.quota.follow_accounts([entry(told)], lambda _: None)
    withdrawn = "SELECT count(*) FROM quota.allowances WHERE withdrawn"
    assert execute(paid.database, withdrawn) > [(0,)]

    assert quota_replay.verify(dsn, silently).differing == {}
    [gone] = execute(
        paid.database,
        "DELETE FROM quota.allowances WHERE session_id = (SELECT min(session_id) FROM quota.allowances)"
        " RETURNING account_id, session_id",
    )
    execute(paid.database, "INSERT INTO quota.payers VALUES ('0xnobody')")
    found = quota_replay.verify(dsn, silently).differing
    quota_replay.rebuild(dsn, silently)

    assert found == {"payers": ["0xnobody"], "allowances": [" ".join(map(str, gone))]}
    assert quota_replay.verify(dsn, silently).differing == {}


def test_a_rebuild_leaves_indexes_as_they_were(paid: Paid) -> None:
    query = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'quota' ORDER BY 1"
    before = execute(paid.database, query)

    quota_replay.rebuild(paid.database.dsn("quota"), silently)
    paid.quota.create_tables()

    assert execute(paid.database, query) == before


def test_quota_goes_on_while_its_tables_are_made_anew(paid: Paid) -> None:
    rebuilding = Thread(target=quota_replay.rebuild, args=(paid.database.dsn("quota"), silently))
    rebuilding.start()
    while rebuilding.is_alive():
        paid.market.pay(2)
    rebuilding.join()

    assert quota_replay.verify(paid.database.dsn("quota"), silently).differing == {}


def test_the_command_says_what_differs_and_mends_it(database: Callable[..., Database]) -> None:
    made = database("accounts")
    env = postgres_env(made.dsn("accounts"), "accounts", create_tables=True)
    with Accounts(PostgresDirectory, env) as accounts:
        PostgresDirectory(accounts).create_tables()
        for number in range(30):
            accounts.open_account(f"account-{number:02}", at=NOW)
            accounts.issue_key(
                account_id=f"account-{number:02}",
                key_id=f"key{number:09}",
                user_id=None,
                secret_hash="ab" * 32,
                at=NOW + timedelta(seconds=1),
            )
    execute(made, "UPDATE accounts.api_keys SET revoked = true WHERE key_id = 'key000000007'")
    execute(made, "DELETE FROM accounts.accounts WHERE account_id = 'account-03'")

    differs = clearinghouse(made, "accounts", "--verify", "--json")
    words = clearinghouse(made, "accounts", "--verify")
    mended = clearinghouse(made, "accounts")
    fine = clearinghouse(made, "accounts", "--verify")

    assert differs.returncode == words.returncode == 1
    report = json.loads(differs.stdout.splitlines()[-1])
    assert report["differing"] == {"accounts": ["account-03"], "api_keys": ["key000000007"]}
    assert "  accounts: account-03\n  api_keys: key000000007\n" in words.stdout
    assert (mended.returncode, fine.returncode) == (0, 0)
    assert "as its log says (90 events" in fine.stdout


def test_a_store_that_is_away_is_no_verdict(database: Callable[..., Database]) -> None:
    made = database("metering")

    without_tables = clearinghouse(made, "metering", "--verify")

    assert without_tables.returncode == 2
    assert "UndefinedTable" in without_tables.stdout


@pytest.mark.parametrize("service", PUBLISHERS)
def test_every_service_with_a_log_has_a_replay(service: str) -> None:
    command = [sys.executable, "-m", f"services.{service}.replay", "--verify"]
    done = subprocess.run(
        command, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert f"{service.upper()}_POSTGRES_DSN is not set" in done.stdout
