"""Budgets and pools: what is granted, held, spent and freed; in memory."""

import pytest

from contracts.accounts import AccountResumed, AccountSuspended, ApiKeyRevoked
from contracts.deposit_watcher import RoundChanged
from contracts.message import LogEntry
from contracts.signer import PaymentSigned
from services.quota.application import PoolNotFound
from services.quota.domain.budget import Budget
from services.quota.domain.pool import Pool
from shared.money import Wei
from tests.unit.quota.ledger import NOW, OTHER, PAYER, Ledger, nothing


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def test_a_grant_is_held_until_it_is_spent(ledger: Ledger) -> None:
    assert ledger.ask(needed=100, wanted=300) == 300
    assert ledger.stand() == (300, 0, 700)

    ledger.paid("s1", 120)

    assert ledger.stand() == (180, 120, 700)
    assert (ledger.pool.held, ledger.pool.exposure) == (180, 300)


def test_a_repeated_ask_gets_the_grant_it_got(ledger: Ledger) -> None:
    first = ledger.ask(needed=100, wanted=300)

    again = ledger.ask(needed=100, wanted=900)

    assert again == first == 300
    assert ledger.stand() == (300, 0, 700)


def test_a_close_frees_what_was_not_spent(ledger: Ledger) -> None:
    ledger.ask(needed=100, wanted=300)
    ledger.paid("s1", 120)

    ledger.closed("s1", 120)
    ledger.closed("s1", 120)

    assert ledger.stand() == (0, 120, 880)
    assert (ledger.pool.held, ledger.pool.exposure) == (0, 120)


def test_a_grant_made_before_a_close_was_heard_of_stays_held(ledger: Ledger) -> None:
    ledger.ask(number=1, needed=500)
    ledger.paid("s1", 100)
    ledger.ask(number=2, needed=300)  # the signer had closed ask 1, and asked anew

    ledger.closed("s1", 100, ask_number=1)
    refusal = ledger.refusal("s2", needed=700)
    ledger.paid("s1", 300)

    assert refusal.status == 429
    assert ledger.stand() == (0, 400, 600)
    assert (ledger.pool.held, ledger.pool.exposure) == (0, 400)


def test_what_was_paid_counts_against_the_deposit_as_long_as_it_can_be_redeemed() -> None:
    ledger = Ledger(deposit=500)
    ledger.ask("s1", needed=400)
    ledger.paid("s1", 400)
    ledger.closed("s1", 400)

    assert ledger.refusal("s2", needed=200).reason == "pool_exhausted"
    assert ledger.ask("s2", needed=100) == 100


def test_a_copy_of_an_ask_that_comes_after_the_close_gets_nothing(ledger: Ledger) -> None:
    ledger.ask(number=1, needed=500)
    ledger.closed("s1", 0, ask_number=1)

    late = ledger.refusal("s1", 1, needed=500)
    following = ledger.ask("s1", 2, needed=400)

    assert (late.status, late.reason) == (503, "ask_is_over")
    assert following == 400
    assert ledger.stand() == (400, 0, 600)


def test_snapshots_from_before_late_copies_were_known_are_read(ledger: Ledger) -> None:
    ledger.ask(number=1, needed=500)
    snapshot = Budget.Snapshot.take(ledger.quota.budget("account-1", NOW))
    assert snapshot.state.pop("class_version") == 3
    for later in ("ended", "credit", "warned", "reached"):
        del snapshot.state[later]
    snapshot.state.update(spent=snapshot.state.pop("spending")["all"][0], limit_reached=False)

    old = snapshot.mutate(None)

    assert isinstance(old, Budget)
    assert (old.ended, old.held, old.spent) == ({}, 500, 0)


def test_every_number_of_asks_and_closes_frees_what_it_held(ledger: Ledger) -> None:
    for number in range(1, 20):
        ledger.ask(number=number, needed=10)
        ledger.closed("s1", 0, ask_number=number - number % 2)
    ledger.closed("s1", 0, ask_number=19)

    assert ledger.stand() == (0, 0, 1000)
    assert ledger.pool.held == 0


def test_near_the_limit_a_lease_is_no_more_than_the_sessions_share(ledger: Ledger) -> None:
    ledger.ask("s1", needed=880)

    assert ledger.ask("s2", needed=50, wanted=500) == 60  # half of what is left, for two run
    assert ledger.ask("s1", 2, needed=60, wanted=500) == 60  # the last goes to one


def test_held_budget_is_429_and_spent_budget_is_402(ledger: Ledger) -> None:
    ledger.ask("s1", needed=950)
    held = ledger.refusal("s2", needed=100)
    ledger.paid("s1", 950)
    spent = ledger.refusal("s2", needed=100)

    assert (held.status, held.reason, held.retry_after_seconds) == (429, "allowance_held", 5)
    assert (spent.status, spent.reason) == (402, "spend_limit_reached")
    assert "spend_limit_wei" in ledger.budget.reached


def test_the_last_wei_is_granted_and_no_more(ledger: Ledger) -> None:
    assert ledger.ask("s1", needed=999) == 999
    assert ledger.ask("s2", needed=1) == 1
    assert ledger.refusal("s3", needed=1).status == 429


def test_a_higher_limit_grants_again(ledger: Ledger) -> None:
    ledger.ask("s1", needed=1000)
    ledger.paid("s1", 1000)
    assert ledger.refusal("s2", needed=1).status == 402

    ledger.limiting.set_spend_limit("account-1", Wei(2000), NOW)

    assert ledger.ask("s2", needed=1) == 1


def test_a_suspended_account_gets_nothing_until_it_is_resumed(ledger: Ledger) -> None:
    ledger.hear(AccountSuspended(account_id="account-1", reason="unpaid"), ledger.quota.follow_accounts)
    refusal = ledger.refusal()
    ledger.hear(AccountResumed(account_id="account-1"), ledger.quota.follow_accounts)

    assert (refusal.status, refusal.reason) == (403, "account_suspended")
    assert ledger.ask() == 100


def test_a_revoked_key_gets_nothing(ledger: Ledger) -> None:
    ledger.hear(ApiKeyRevoked(account_id="account-1", key_id="key-1"), ledger.quota.follow_accounts)

    assert ledger.refusal().reason == "key_revoked"


def test_exposure_never_passes_the_deposit() -> None:
    ledger = Ledger(deposit=500)
    assert ledger.ask("s1", needed=400, wanted=900) == 500

    refusal = ledger.refusal("s2", needed=1)

    assert (refusal.status, refusal.reason) == (503, "pool_exhausted")


def test_each_payers_pool_has_an_exposure_of_its_own(ledger: Ledger) -> None:
    ledger.fund(OTHER, 500)
    ledger.ask("s1", needed=100, wanted=300)
    ledger.ask("s2", needed=50, payer=OTHER)

    ledger.paid("s2", 20, payer=OTHER)
    ledger.closed("s1", 0)

    other = ledger.quota.pool(OTHER)
    assert (ledger.pool.held, ledger.pool.exposure) == (0, 0)
    assert (other.held, other.exposure, other.cover) == (30, 50, 500)
    assert ledger.stand() == (30, 20, 950)


def test_payments_of_two_payers_in_one_batch_go_to_their_pools(ledger: Ledger) -> None:
    ledger.fund(OTHER, 500)
    ledger.ask("s1", needed=100)
    ledger.ask("s2", needed=60, payer=OTHER)
    payments = [("s1", PAYER, 30), ("s2", OTHER, 7), ("s1", PAYER, 1), ("s2", OTHER, 2)]
    entries = [
        LogEntry(
            epoch=1,
            position=position + 1,
            previous_position=position,
            subject=PaymentSigned.subject,
            at=NOW,
            event={
                "account_id": "account-1",
                "session_id": session,
                "payer": payer,
                "cost": str(cost),
                "creation_round": 10,
                "recipient": "0x" + "22" * 20,
            },
        )
        for position, (session, payer, cost) in enumerate(payments)
    ]

    ledger.quota.follow_spend(entries, nothing)

    other = ledger.quota.pool(OTHER)
    assert (ledger.pool.held, ledger.pool.costs) == (69, {"10": 31})
    assert (other.held, other.costs) == (51, {"10": 9})


def test_an_exhausted_pool_refuses_while_another_grants() -> None:
    ledger = Ledger(deposit=100)
    ledger.fund(OTHER, 40)
    ledger.ask("s1", needed=100)

    assert ledger.refusal("s2", needed=1).reason == "pool_exhausted"
    assert ledger.ask("s3", needed=10, wanted=90, payer=OTHER) == 40


def test_an_unknown_payer_is_refused_by_its_name_and_gets_no_pool(ledger: Ledger) -> None:
    refusal = ledger.refusal(payer=OTHER)

    assert (refusal.status, refusal.reason) == (503, "pool_unknown")
    assert OTHER in str(refusal)
    assert ledger.quota.absent([Pool.create_id(OTHER)])
    with pytest.raises(PoolNotFound, match=OTHER):
        ledger.quota.pool(OTHER)
    assert ledger.stand() == (0, 0, 1000)


def test_a_pool_whose_funds_nobody_saw_is_unknown(ledger: Ledger) -> None:
    """As quota's store is written anew, spends may be heard of before funds."""
    ledger.paid("s1", 20, payer=OTHER)

    assert ledger.refusal(payer=OTHER).reason == "pool_unknown"
    with pytest.raises(PoolNotFound):
        ledger.quota.pool(OTHER)
    ledger.fund(OTHER, 500)
    assert ledger.quota.pool(OTHER).exposure == 20


def test_tickets_leave_the_exposure_when_their_validity_ends(ledger: Ledger) -> None:
    ledger.hear(RoundChanged(round=10, round_hash="0x", ticket_validity_rounds=2), ledger.quota.follow_funds)
    ledger.ask(needed=300)
    ledger.paid("s1", 300, made=10)
    pool = ledger.pool

    pool.change_round(11, 2, NOW)
    still = pool.exposure
    pool.change_round(12, 2, NOW)

    assert (still, pool.exposure) == (300, 0)


def test_a_pool_being_unlocked_covers_nothing(ledger: Ledger) -> None:
    pool = ledger.pool
    pool.change_round(10, 2, NOW)

    pool.observe_funds(deposit=Wei(500), reserve=Wei(1), withdraw_round=11, now=NOW)

    assert pool.cover == 0


def test_a_batch_of_entries_is_one_event_a_budget(ledger: Ledger) -> None:
    ledger.ask(needed=300)
    before = ledger.budget.version
    cost = {"account_id": "account-1", "session_id": "s1", "payer": PAYER, "cost": "3"}
    entries = [
        LogEntry(
            epoch=1,
            position=position + 1,
            previous_position=position,
            subject=PaymentSigned.subject,
            at=NOW,
            event={**cost, "creation_round": 10, "recipient": "0x" + "22" * 20},
        )
        for position in range(100)
    ]

    ledger.quota.follow_spend(entries, nothing)

    assert (ledger.stand(), ledger.budget.version) == ((0, 300, 700), before + 1)


def test_an_entry_without_its_cost_is_a_broken_one(ledger: Ledger) -> None:
    entry = LogEntry(
        epoch=1, position=1, previous_position=0, subject=PaymentSigned.subject, at=NOW, event={}
    )

    with pytest.raises(KeyError):
        ledger.quota.follow_spend([entry], nothing)
    assert ledger.stand() == (0, 0, 1000)
