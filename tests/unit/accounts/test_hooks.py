"""Hooks of accounts: repeats, limits, versions, and what a restore had lost."""

from datetime import UTC, datetime, timedelta

import pytest

from contracts.hooks import HookRemoved, HookRotated
from contracts.message import Event, LogEntry
from services.accounts.application import Accounts
from services.accounts.domain.accounts import HOOKS_MAX, AccountNotFound, BadId, TooManyHooks
from services.accounts.domain.hook import BadOverlap, HookIdTaken, HookNotFound
from services.accounts.recovery import recovering
from shared.clock import SetClock
from tests.unit.accounts.fake_directory import FakeDirectory

NOW = datetime(2031, 5, 17, 8, 30, tzinfo=UTC)
HOOK = "h00kIdOf12Lt"
DAY = timedelta(days=1)


@pytest.fixture
def accounts() -> Accounts:
    directory = FakeDirectory()
    made = Accounts(lambda _: directory)
    made.open_account("acme", at=NOW)
    made.open_account("other", at=NOW)
    return made


def add(accounts: Accounts, hook_id: str = HOOK, account_id: str = "acme") -> None:
    accounts.add_hook(account_id=account_id, hook_id=hook_id, at=NOW)


def events(accounts: Accounts) -> int:
    return len(accounts.recorder.select_notifications(1, 500))


def test_a_repeat_of_an_adding_answers_the_same_and_stores_nothing(accounts: Accounts) -> None:
    first = accounts.add_hook(account_id="acme", hook_id=HOOK, at=NOW)
    stored = events(accounts)

    again = accounts.add_hook(account_id="acme", hook_id=HOOK, at=NOW + DAY)

    assert (again, events(accounts)) == (first, stored)
    assert (first.version, first.previous_until_at) == (1, None)


def test_an_id_of_another_hook_is_refused(accounts: Accounts) -> None:
    add(accounts)

    with pytest.raises(HookIdTaken):
        add(accounts, account_id="other")
    with pytest.raises(BadId):
        add(accounts, "../../hooks")
    with pytest.raises(AccountNotFound):
        add(accounts, "an0therH00k1", "nobody")


def test_the_secret_before_stays_valid_for_the_overlap(accounts: Accounts) -> None:
    add(accounts)

    rotated = accounts.rotate_hook(account_id="acme", hook_id=HOOK, overlap=DAY, at=NOW)
    cut = accounts.rotate_hook(account_id="acme", hook_id=HOOK, overlap=timedelta(), at=NOW)

    assert (rotated.version, rotated.previous_until_at) == (2, NOW + DAY)
    assert (cut.version, cut.previous_until_at) == (3, NOW)


@pytest.mark.parametrize("seconds", [-1, 7 * 86_400 + 1])
def test_an_overlap_has_bounds(accounts: Accounts, seconds: int) -> None:
    add(accounts)

    with pytest.raises(BadOverlap):
        accounts.rotate_hook(account_id="acme", hook_id=HOOK, overlap=timedelta(seconds=seconds), at=NOW)


def test_a_removed_hook_is_gone_for_ever_and_makes_room(accounts: Accounts) -> None:
    for number in range(HOOKS_MAX):
        add(accounts, f"h00kNumber{number:02}")
    with pytest.raises(TooManyHooks):
        add(accounts)

    removed = [accounts.remove_hook(account_id="acme", hook_id="h00kNumber00", at=NOW) for _ in range(2)]
    add(accounts)

    assert [row.removed for row in removed] == [True, True]
    assert len(accounts.hooks("acme")) == HOOKS_MAX
    with pytest.raises(HookIdTaken):
        add(accounts, "h00kNumber00")
    with pytest.raises(HookNotFound):
        accounts.rotate_hook(account_id="acme", hook_id="h00kNumber00", overlap=DAY, at=NOW)


def test_a_foreign_hook_is_like_none(accounts: Accounts) -> None:
    add(accounts)

    with pytest.raises(HookNotFound):
        accounts.remove_hook(account_id="other", hook_id=HOOK, at=NOW)
    with pytest.raises(HookNotFound):
        accounts.rotate_hook(account_id="other", hook_id=HOOK, overlap=DAY, at=NOW)
    assert accounts.hooks("other") == []


def test_what_a_restore_had_lost_is_rotated_and_removed_again(accounts: Accounts) -> None:
    add(accounts)
    add(accounts, "an0therH00k1")
    recover = recovering(accounts, SetClock(NOW + timedelta(hours=1)))
    by = {"account_id": "acme", "actor": "admin:1", "reason": "leaked"}
    rotated = HookRotated(hook_id=HOOK, version=2, previous_until_at=NOW + DAY, **by)
    lost = [
        rotated,
        rotated,
        HookRemoved(hook_id="an0therH00k1", **by),
        HookRemoved(hook_id="n0Such00Hook", **by),
    ]

    recover([_entry(position, event) for position, event in enumerate(lost, start=1)])

    [left] = accounts.hooks("acme")
    assert (left.hook_id, left.version, left.previous_until_at) == (HOOK, 2, NOW + DAY)


def _entry(position: int, event: Event) -> LogEntry:
    return LogEntry(
        epoch=1,
        position=position,
        previous_position=position - 1,
        subject=event.subject,
        at=NOW,
        event=event.model_dump(mode="json"),
    )
