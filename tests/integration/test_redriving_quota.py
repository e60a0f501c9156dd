"""Letters of quota redriven in any order, often and by several replicas: as if nothing had been buried.

On real PostgreSQL. A release that cannot read some entries buries them; the next one can.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from random import Random

import pytest

from contracts.accounts import AccountResumed, AccountSuspended
from contracts.deposit_watcher import FundsObserved, RoundChanged
from contracts.message import Event
from contracts.signer import SessionClosed
from services.quota.app import inboxes as quota_inboxes
from services.quota.application import Quota
from services.quota.domain.granting import Ask
from services.quota.outbox import QuotaOutbox
from services.quota.replay import replay as quota_replay
from shared.dead_letters import DeadLetters
from shared.inbox import Inbox
from shared.log import PublicLog
from shared.money import Wei
from shared.positions import Positions
from shared.store import postgres_env
from tests.integration.redriven_letters import (
    ORPHANED_CLIENT,
    PAYER,
    SEEDS,
    START,
    Databases,
    Older,
    entry,
    log_of,
    payment,
    redrive,
    redrive_all,
    rows,
)


@contextmanager
def quota_of(dsn: str) -> Iterator[tuple[Quota, dict[str, Inbox]]]:
    quota = Quota(Wei(10**9), postgres_env(dsn, "quota", create_tables=True))
    try:
        PublicLog(quota, QuotaOutbox(quota)).create_tables()
        Positions(quota).create_tables()
        quota.create_tables()
        found = {inbox.reader.split("-", 1)[1]: inbox for inbox in quota_inboxes(quota, ORPHANED_CLIENT)}
        for inbox in found.values():
            Positions(quota).get(inbox.reader)
        yield quota, found
    finally:
        quota.close()


def funds(deposit: int) -> FundsObserved:
    return FundsObserved(
        payer=PAYER, deposit=deposit, reserve=5, withdraw_round=0, pool_size=100, l1_block=1, block_hash="0x"
    )


def ask_of(session: str, number: int) -> Ask:
    return Ask(
        account_id="acme",
        key_id="key",
        session_id=session,
        number=number,
        payer=PAYER,
        needed=Wei(60),
        wanted=Wei(100),
    )


type Step = tuple[str, Event] | Ask


def house_of(random: Random) -> list[Step]:
    """What quota hears and is asked, in order; in the end every session closes."""
    asks = dict.fromkeys(("session-0", "session-1"), 0)
    steps: list[Step] = [("follow-funds", funds(10**9))]
    round_number = 10
    for number in range(50):
        session = random.choice(list(asks))
        match random.choice(
            ("ask", "ask", "pay", "pay", "pay", "close", "suspend", "resume", "funds", "round")
        ):
            case "ask":
                asks[session] += 1
                steps.append(ask_of(session, asks[session]))
            case "pay":
                steps.append(("follow-spend", payment(session, random)))
            case "close":
                steps.append(("follow-spend", _closed(session, asks[session])))
            case "suspend":
                steps.append(("follow-accounts", AccountSuspended(account_id="acme", reason="unpaid")))
            case "resume":
                steps.append(("follow-accounts", AccountResumed(account_id="acme")))
            case "funds":
                steps.append(("follow-funds", funds(10**8 + number)))
            case "round":
                round_number += 1
                changed = RoundChanged(round=round_number, round_hash="0x", ticket_validity_rounds=2)
                steps.append(("follow-funds", changed))
    return [*steps, *(("follow-spend", _closed(session, number)) for session, number in asks.items())]


def _closed(session: str, number: int) -> SessionClosed:
    return SessionClosed(account_id="acme", session_id=session, spent=0, ask_number=number)


def live(quota: Quota, inboxes: dict[str, Inbox], steps: Sequence[Step], unreadable: set[int]) -> None:
    older = {name: Older(inbox, unreadable) for name, inbox in inboxes.items()}
    for number, step in enumerate(steps):
        at = START + timedelta(seconds=47 * number)
        if isinstance(step, Ask):
            quota.grant_all([step], at)
        else:
            name, event = step
            older[name].follow([entry(1, 3 * number + 3, event, at)])


def held_and_spent(quota: Quota) -> dict[str, object]:
    budget, pool = quota.budget("acme", START), quota.pool(PAYER)
    return {
        "spent": budget.spent,
        "held": budget.held,
        "suspended": bool(budget.suspended),
        "pool": (pool.deposit, pool.reserve, pool.round, pool.held, pool.costs),
        "allowances": rows(quota, "SELECT account_id, session_id FROM quota.allowances"),
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_quota_is_as_if_nothing_had_been_buried(database: Databases, seed: int) -> None:
    random = Random(seed)
    steps = house_of(random)
    with quota_of(database("quota").dsn("quota")) as (quota, inboxes):
        live(quota, inboxes, steps, set())
        expected = held_and_spent(quota)

    dsn = database("quota").dsn("quota")
    told = [3 * number + 3 for number, step in enumerate(steps) if not isinstance(step, Ask)]
    with quota_of(dsn) as (quota, inboxes):
        live(quota, inboxes, steps, set(random.sample(told[1:], 12)))
    with quota_of(dsn) as (quota, first), quota_of(dsn) as (other, second):
        replicas = (
            DeadLetters("quota", quota, list(first.values())),
            DeadLetters("quota", other, list(second.values())),
        )
        settled = redrive_all(replicas, random)

        assert held_and_spent(quota) == expected
        assert {letter.state for letter in settled} <= {"applied", "overtaken"}
    assert expected["held"] == 0
    assert quota_replay.verify(dsn).differing == {}


def test_a_suspension_that_was_lifted_since_is_not_suspended_again(database: Databases) -> None:
    dsn = database("quota").dsn("quota")
    suspended, resumed = log_of(
        [AccountSuspended(account_id="acme", reason="unpaid"), AccountResumed(account_id="acme")]
    )
    with quota_of(dsn) as (quota, inboxes):
        older = Older(inboxes["follow-accounts"], {suspended.position})
        older.follow([suspended])
        older.follow([resumed])
    with quota_of(dsn) as (quota, inboxes):
        letters = DeadLetters("quota", quota, list(inboxes.values()))

        letter = redrive(letters, f"quota-follow-accounts:1:{suspended.position}")

        assert letter.state == "overtaken"
        assert not quota.budget("acme", START).suspended
