"""Limits that two set at once, and session tokens that are ended before their time."""

import json
from datetime import timedelta

import pytest
from pydantic import ValidationError

from contracts import limits as contract
from services.quota.domain.limit_set import LimitsChanged, LimitSet, Scope
from services.quota.domain.limits import Limits
from services.quota.domain.plan import Terms
from services.quota.rules import entry_of
from shared.money import Wei
from tests.unit.quota.ledger import AUTHOR, NOW, Ledger

ACCOUNT = Scope("account-1")
TOKEN = Scope("account-1", token_id="t-1")
ONE, OTHER = Limits(sessions_max=1), Limits(sessions_max=2)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.mark.parametrize("scope", [ACCOUNT, Scope("account-1", user_id="ann"), TOKEN])
def test_who_read_before_the_last_change_replaces_nothing(ledger: Ledger, scope: Scope) -> None:
    read = ledger.limiting.view(scope, NOW).version

    first = ledger.limiting.set_limits(scope, ONE, AUTHOR, NOW, version=read)
    with pytest.raises(LimitsChanged, match=f"version {first.version} is set, not {read}"):
        ledger.limiting.set_limits(scope, OTHER, AUTHOR, NOW, version=read)
    after = ledger.limiting.view(scope, NOW)
    ledger.limiting.set_limits(scope, OTHER, AUTHOR, NOW, version=after.version)

    assert (read, after.version, after.own.sessions_max) == (0, first.version, 1)
    assert ledger.limiting.view(scope, NOW).own.sessions_max == 2


def test_without_a_version_the_later_wins(ledger: Ledger) -> None:
    ledger.limiting.set_limits(ACCOUNT, ONE, AUTHOR, NOW)

    assert ledger.limiting.set_limits(ACCOUNT, OTHER, AUTHOR, NOW).own.sessions_max == 2


def test_what_changes_nothing_is_no_new_version(ledger: Ledger) -> None:
    once = ledger.limiting.set_limits(ACCOUNT, ONE, AUTHOR, NOW)

    assert ledger.limiting.set_limits(ACCOUNT, ONE, AUTHOR, NOW, version=once.version) == once


def test_an_accounts_plan_and_clock_are_of_the_same_version(ledger: Ledger) -> None:
    read = ledger.limiting.set_limits(ACCOUNT, ONE, AUTHOR, NOW).version

    zoned = ledger.limiting.set_time_zone("account-1", "Asia/Tokyo", AUTHOR, NOW).version

    assert zoned != read
    with pytest.raises(LimitsChanged):
        ledger.limiting.set_limits(ACCOUNT, OTHER, AUTHOR, NOW, version=read)


def test_plans_are_not_replaced_unread_either(ledger: Ledger) -> None:
    made = ledger.limiting.set_plan("pro", Terms(rank=1), AUTHOR, NOW, version=0)

    with pytest.raises(LimitsChanged):
        ledger.limiting.set_plan("pro", Terms(rank=2), AUTHOR, NOW, version=0)
    changed = ledger.limiting.set_plan("pro", Terms(rank=3), AUTHOR, NOW, version=made.version)

    assert ledger.limiting.plans(["pro"], NOW) == [changed]
    assert changed.plan.rank == 3


@pytest.mark.parametrize("who", [{"user_id": "ann"}, {"key_id": "k"}, {"token_id": "t"}])
def test_a_limit_of_accounts_is_set_for_nobody_else(who: dict[str, str]) -> None:
    limits = {"credit_limit_micro_usd": 5}
    said = {"account_id": "account-1", "limits": limits, "actor": "a", "reason": "r"}

    contract.SetLimits.model_validate(said)

    with pytest.raises(ValidationError, match="credit_limit_micro_usd is for accounts only"):
        contract.SetLimits.model_validate({**said, **who})


@pytest.mark.parametrize("of", ["user_limits", "key_limits"])
def test_nor_by_a_plan(of: str) -> None:
    said = {"name": "pro", "actor": "a", "reason": "r"}
    limits = {"credit_limit_micro_usd": 5}

    contract.SetPlan.model_validate({**said, "plan": {"limits": limits}})

    with pytest.raises(ValidationError, match="credit_limit_micro_usd is for accounts only"):
        contract.SetPlan.model_validate({**said, "plan": {of: limits}})


def test_every_limit_of_one_level_is_a_limit() -> None:
    assert set(contract.ONLY_OF) <= set(contract.Limits.model_fields)


def test_a_token_that_is_ended_expires_now_and_keeps_its_other_limits(ledger: Ledger) -> None:
    until = int((NOW + timedelta(hours=1)).timestamp())
    ledger.limit(TOKEN, spend_limit_wei=Wei(150), expires_at=until)

    ended = ledger.limiting.end_token(TOKEN, AUTHOR, NOW)

    assert (ended.own.expires_at, ended.own.spend_limit_wei) == (NOW, 150)
    entry = json.loads(_entry(ledger, TOKEN))
    assert entry["rules"]["expires_at"] == "2026-03-01T12:00:00Z"


def test_a_token_without_limits_of_its_own_is_ended_too(ledger: Ledger) -> None:
    assert ledger.limiting.end_token(TOKEN, AUTHOR, NOW).own == contract.Limits(expires_at=NOW)


def test_an_ended_token_stays_ended_as_it_was(ledger: Ledger) -> None:
    once = ledger.limiting.end_token(TOKEN, AUTHOR, NOW)

    again = ledger.limiting.end_token(TOKEN, AUTHOR, NOW + timedelta(minutes=1))

    assert again == once


def test_what_sessions_of_an_ended_token_hold_is_taken_back(ledger: Ledger) -> None:
    ledger.ask("s1", needed=100, token_id="t-1")
    ledger.ask("s2", needed=100, token_id="t-2")

    ledger.limiting.end_token(TOKEN, AUTHOR, NOW)

    stored = list(ledger.quota.events.get(ledger.budget.id))
    taken = [event.token_id for event in stored if isinstance(event, type(ledger.budget).LeasesTakenBack)]
    assert taken == ["t-1"]


def _entry(ledger: Ledger, scope: Scope) -> str:
    found: LimitSet = ledger.quota.repository.get(LimitSet.create_id(*scope.ids))
    return entry_of(found)[1]
