"""Limits of an hour, a day, a month: when they refuse, and when there is room again."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.quota.domain.budget import Budget
from services.quota.domain.windows import BadTimeZone
from shared.money import Wei
from tests.unit.quota.ledger import AUTHOR, NOW, Ledger
from tests.unit.quota.limited import rows


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.mark.parametrize(
    ("limit", "later"),
    [
        ("spend_per_hour_wei", timedelta(hours=1)),
        ("spend_per_day_wei", timedelta(days=1)),
        ("spend_per_month_wei", timedelta(days=31)),
    ],
)
def test_a_window_that_is_used_up_refuses_until_it_turns(
    ledger: Ledger, limit: str, later: timedelta
) -> None:
    limits: dict[str, Any] = {limit: Wei(300)}
    ledger.limit(**limits)
    ledger.ask(needed=300)
    ledger.paid("s1", 300)
    ledger.closed("s1", 300)

    refusal = ledger.refusal("s2", needed=1)
    ledger.now += later
    granted = ledger.ask("s3", needed=300)

    assert (refusal.status, refusal.reason) == (402, "spend_limit_reached")
    assert "300 wei of 300 wei spent by account account-1" in str(refusal)
    assert granted == 300


def test_spend_counts_in_the_window_of_the_payments_time(ledger: Ledger) -> None:
    ledger.limit(spend_per_hour_wei=Wei(300))
    ledger.now = NOW.replace(hour=12, minute=59)
    ledger.ask(needed=200)
    ledger.paid("s1", 120)

    ledger.now = NOW.replace(hour=13)
    ledger.paid("s1", 30)

    assert rows(ledger)["spend_per_hour_wei"] == (300, 30, 50, 220)
    assert rows(ledger)["spend_limit_wei"] == (1000, 150, 50, 800)


def test_a_spend_that_is_told_after_the_turn_counts_in_no_window_that_runs(ledger: Ledger) -> None:
    ledger.limit(spend_per_hour_wei=Wei(300))
    ledger.now = NOW.replace(hour=12, minute=59)
    ledger.ask(needed=200)

    ledger.now = NOW.replace(hour=13)
    ledger.paid("s1", 30)
    ledger.now = NOW.replace(hour=12, minute=59)
    ledger.paid("s1", 120)

    ledger.now = NOW.replace(hour=13)
    assert rows(ledger)["spend_per_hour_wei"] == (300, 30, 50, 220)
    assert rows(ledger)["spend_limit_wei"] == (1000, 150, 50, 800)


def test_a_lease_ends_when_the_window_turns(ledger: Ledger) -> None:
    ledger.limit(spend_per_hour_wei=Wei(300))
    ledger.now = NOW.replace(hour=12, minute=20)

    ledger.ask(needed=200)

    assert ledger.budget.sessions["s1"]["ends"] == NOW.replace(hour=13).timestamp()


def test_days_are_those_of_the_accounts_clock(ledger: Ledger) -> None:
    ledger.limiting.set_time_zone("account-1", "Asia/Tokyo", AUTHOR, ledger.now)
    ledger.limit(spend_per_day_wei=Wei(300))
    ledger.now = datetime(2026, 3, 1, 14, 59, tzinfo=UTC)  # a minute to midnight in Tokyo
    ledger.ask(needed=300)
    ledger.paid("s1", 300)

    refused = ledger.refusal("s2", needed=1)
    ledger.pass_time(minutes=1)

    assert refused.status == 402
    assert ledger.ask("s3", needed=300) == 300


def test_what_was_spent_today_counts_when_the_clock_changes(ledger: Ledger) -> None:
    ledger.limit(spend_per_day_wei=Wei(300))
    ledger.ask(needed=300)
    ledger.paid("s1", 200)

    ledger.limiting.set_time_zone("account-1", "America/New_York", AUTHOR, ledger.now)
    ledger.paid("s1", 60)

    assert rows(ledger)["spend_per_day_wei"] == (300, 260, 40, 0)


def test_a_clock_that_is_none_is_refused(ledger: Ledger) -> None:
    with pytest.raises(BadTimeZone, match="time_zone"):
        ledger.limiting.set_time_zone("account-1", "Mars/Olympus", AUTHOR, ledger.now)


def test_running_sessions_have_a_grace_at_a_limit(ledger: Ledger) -> None:
    ledger.limit(spend_per_day_wei=Wei(100), grace_seconds=60)
    ledger.ask(needed=100)
    ledger.paid("s1", 100)

    new = ledger.refusal("s2", needed=10)
    running = ledger.ask("s1", 2, needed=10, wanted=50)
    ledger.pass_time(seconds=60)
    late = ledger.refusal("s1", 3, needed=10)

    assert (new.status, late.status) == (402, 402)
    assert running == 10  # no more than it needs now


def test_a_grace_begins_with_whoever_meets_the_limit_first(ledger: Ledger) -> None:
    ledger.limit(spend_per_day_wei=Wei(100), grace_seconds=60)
    ledger.ask(needed=100)
    ledger.paid("s1", 100)

    assert ledger.ask("s1", 2, needed=10) == 10
    ledger.pass_time(seconds=59)
    assert ledger.ask("s1", 3, needed=10) == 10
    ledger.pass_time(seconds=1)
    assert ledger.refusal("s1", 4, needed=10).status == 402


def test_each_limit_is_warned_of_once_a_window(ledger: Ledger) -> None:
    ledger.limit(spend_per_day_wei=Wei(100))
    told = []
    ledger.ask(needed=100)

    for _ in range(10):
        ledger.paid("s1", 10)
        told.append(ledger.budget.warned.get("spend_per_day_wei", [0, 0])[1])

    assert told == [0, 0, 0, 0, 50, 50, 50, 80, 80, 100]


def test_a_higher_limit_is_warned_of_anew_only_when_it_was_clearly_left(ledger: Ledger) -> None:
    ledger.limit(spend_limit_wei=Wei(100))
    ledger.ask(needed=100)
    ledger.paid("s1", 80)

    ledger.limit(spend_limit_wei=Wei(105))  # 76 %: not clearly
    ledger.paid("s1", 1)
    still = ledger.budget.warned["spend_limit_wei"][1]
    events = len([name for name in warnings_of(ledger) if name == 80])
    ledger.limit(spend_limit_wei=Wei(150))  # 54 %
    ledger.paid("s1", 1)

    assert (still, events) == (80, 1)
    assert warnings_of(ledger) == [80, 50]


def warnings_of(ledger: Ledger) -> list[int]:
    stored = ledger.quota.events.get(ledger.budget.id)
    return [each.percent for each in stored if isinstance(each, Budget.LimitNeared)]


def test_reaching_a_limit_is_told_once_a_window(ledger: Ledger) -> None:
    ledger.limit(spend_per_hour_wei=Wei(100))
    ledger.ask(needed=100)
    ledger.paid("s1", 100)

    for _ in range(3):
        ledger.refusal("s2", needed=1)
    ledger.pass_time(hours=1)
    for _ in range(3):
        ledger.refusal("s3", needed=101)

    reached = [
        event for event in ledger.quota.events.get(ledger.budget.id) if "LimitReached" in repr(type(event))
    ]
    assert len(reached) == 2
