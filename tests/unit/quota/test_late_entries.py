"""Entries of the signer's log that were buried and are booked after those that followed them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from contracts.deposit_watcher import FundsObserved
from contracts.message import Event, LogEntry
from contracts.signer import PaymentSigned, SessionClosed
from services.quota.application import Quota
from services.quota.domain.granting import Ask
from shared.money import Wei
from tests.told_payments import payment_signed

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PAYER = "0x" + "11" * 20


def nothing(_: Any) -> None:
    """An effect of which nobody hears."""


def entry(event: Event, seconds: int = 0) -> LogEntry:
    return LogEntry(
        epoch=1,
        position=1,
        previous_position=0,
        subject=event.subject,
        at=NOW + timedelta(seconds=seconds),
        event=event.model_dump(mode="json"),
    )


def paid(cost: int) -> PaymentSigned:
    return payment_signed("s1", cost, payer=PAYER)


def closed(ask_number: int) -> SessionClosed:
    return SessionClosed(account_id="acme", session_id="s1", spent=0, ask_number=ask_number)


def quota_with_asks(*events: Event | int) -> Quota:
    """Where numbers are asks for 100 wei, among what was heard."""
    quota = Quota(Wei(10_000))
    funds = FundsObserved(
        payer=PAYER, deposit=10**9, reserve=1, withdraw_round=0, pool_size=100, l1_block=1, block_hash="0x"
    )
    quota.follow_funds([entry(funds)], nothing)
    for event in events:
        if isinstance(event, int):
            ask = Ask(
                account_id="acme",
                key_id="key",
                session_id="s1",
                number=event,
                payer=PAYER,
                needed=Wei(100),
                wanted=Wei(100),
            )
            assert quota.grant_all([ask], NOW) == [100]
        else:
            quota.follow_spend([entry(event)], nothing)
    return quota


def books(quota: Quota) -> tuple[int, int, int]:
    """Spent, held, and what of the pool is exposed."""
    budget = quota.budget("acme", NOW)
    return budget.spent, budget.held, quota.pool(PAYER).exposure


def test_a_late_payment_of_an_open_session_moves_held_to_spent() -> None:
    quota = quota_with_asks(1, paid(10))

    quota.follow_late_spend([entry(paid(30))], nothing)

    assert books(quota) == (40, 60, 100)


def test_a_late_payment_from_before_a_close_leaves_what_is_held_now() -> None:
    quota = quota_with_asks(1, closed(1), 2)

    quota.follow_late_spend([entry(paid(30))], nothing)

    assert books(quota) == (30, 100, 130)


def test_a_late_close_frees_nothing_that_a_later_one_has_freed() -> None:
    quota = quota_with_asks(1, 2, closed(2), 3, paid(10))

    quota.follow_late_spend([entry(closed(1))], nothing)

    assert books(quota) == (10, 90, 100)


def test_a_late_close_frees_what_was_held_until_then() -> None:
    quota = quota_with_asks(1, paid(10), 2)

    quota.follow_late_spend([entry(closed(1))], nothing)

    assert books(quota) == (10, 100, 110)
