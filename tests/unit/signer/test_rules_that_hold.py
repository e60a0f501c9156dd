"""Which rules hold for a request: own ones over a plan's, of account, user, key and token."""

from typing import Any

import pytest

from contracts.limits import Rules, plan_entry, scope_entry
from services.signer.permits import UNLIMITED_PERMIT, Job, Permit, Who
from services.signer.refusal import PaymentRefusal
from services.signer.watched_rules import WatchedRules
from tests.quotes import QuoteMaker, body
from tests.unit.signer.rules_bucket import ACCOUNT, KEY, SCOPES, TOKEN, USER, RulesBucket

PAYER = "0x" + "22" * 20
EVERYBODY = Who(ACCOUNT, USER, KEY, TOKEN, PAYER)
JOB = Job("live", "demo/echo", bytes(20), "https://orchestrator.test")


def permit(bucket: RulesBucket, who: Who = EVERYBODY) -> Permit:
    return WatchedRules(bucket, bucket).of(who)


def rates(bucket: RulesBucket, who: Who = EVERYBODY) -> dict[str, int]:
    """Payments per second by level; the levels are told by their entries."""
    return {name.split(".", 1)[0]: rate for name, rate in permit(bucket, who).rates}


def test_without_rules_nothing_is_limited() -> None:
    assert permit(RulesBucket()) is UNLIMITED_PERMIT


@pytest.mark.parametrize("level", SCOPES)
def test_rules_of_each_level_hold(level: str) -> None:
    bucket = RulesBucket()
    bucket.limit(level, payments_per_second=7)

    assert rates(bucket) == {level: 7}


def test_all_levels_hold_side_by_side() -> None:
    bucket = RulesBucket()
    for rate, level in enumerate(SCOPES, start=1):
        bucket.limit(level, payments_per_second=rate)

    assert rates(bucket) == {"account": 1, "user": 2, "key": 3, "token": 4}


def test_who_has_no_user_and_no_token_is_not_held_by_theirs() -> None:
    bucket = RulesBucket()
    for level in ("user", "token"):
        bucket.limit(level, payments_per_second=1)

    assert permit(bucket, Who(ACCOUNT, None, KEY, None, PAYER)) is UNLIMITED_PERMIT
    bucket.set_plan("default", Rules(payments_per_second=5), Rules(payments_per_second=1))
    assert permit(bucket, Who(ACCOUNT, None, KEY, None, PAYER)).rates == (("account.account-1", 5),)


@pytest.mark.parametrize(
    "other",
    [
        EVERYBODY._replace(account_id="account-2"),
        EVERYBODY._replace(user_id="user-2", key_id="key-2", token_id="token-2"),
    ],
)
def test_others_are_not_held(other: Who) -> None:
    bucket = RulesBucket()
    for level in ("user", "key", "token"):
        bucket.limit(level, payments_per_second=1)

    assert permit(bucket, other) is UNLIMITED_PERMIT


def test_own_rules_go_before_a_plans_field_by_field() -> None:
    bucket = RulesBucket()
    bucket.set_plan("pro", Rules(payments_per_second=5, apps=["a"], job_types=["live"]))
    bucket.give_plan("pro", apps=["b"], job_types=[])

    [scope] = permit(bucket).scopes

    assert scope.terms.payments_per_second == 5
    assert scope.terms.apps == frozenset({"b"})
    assert scope.terms.job_types == frozenset()  # set, to nothing


def test_users_and_keys_have_what_the_plan_says_of_them() -> None:
    bucket = RulesBucket()
    bucket.set_plan("pro", None, Rules(payments_per_second=2), Rules(payments_per_second=3))
    bucket.give_plan("pro")

    assert rates(bucket) == {"user": 2, "key": 3}
    bucket.limit("user", payments_per_second=9)
    bucket.limit("key", apps=["a"])
    assert rates(bucket) == {"user": 9, "key": 3}


@pytest.mark.parametrize("named", [None, "no-such-plan"])
def test_without_a_plan_the_default_one_holds(named: str | None) -> None:
    bucket = RulesBucket()
    bucket.set_plan("default", Rules(payments_per_second=4))
    bucket.give_plan(named, apps=["a"])

    assert rates(bucket) == {"account": 4}


def test_an_account_that_quota_never_heard_of_has_the_default_plan() -> None:
    bucket = RulesBucket()
    bucket.set_plan("default", Rules(payments_per_second=4), None, Rules(payments_per_second=1))

    assert rates(bucket) == {"account": 4, "key": 1}


def test_with_a_plan_the_default_one_does_not_hold() -> None:
    bucket = RulesBucket()
    bucket.set_plan("default", Rules(payments_per_second=4))
    bucket.set_plan("pro", Rules(apps=["a"]))
    bucket.give_plan("pro")

    assert rates(bucket) == {}


def test_a_permit_is_made_once_and_anew_when_one_of_its_entries_changes() -> None:
    bucket = RulesBucket()
    bucket.set_plan("pro", Rules(payments_per_second=4))
    bucket.give_plan("pro")
    rules = WatchedRules(bucket, bucket)

    made = rules.of(EVERYBODY)
    assert rules.of(EVERYBODY) is made
    bucket.limit("key", payments_per_second=2)
    assert len(rules.of(EVERYBODY).rates) == 2
    bucket.set_plan("pro", Rules())
    del bucket.entries[scope_entry(SCOPES["key"])]
    assert rules.of(EVERYBODY).rates == ()
    bucket.set_plan("default", Rules(payments_per_second=1))
    del bucket.entries[plan_entry("pro")]
    assert rules.of(EVERYBODY).rates == (("account.account-1", 1),)


def test_two_accounts_of_one_plan_share_what_was_read_of_it() -> None:
    bucket = RulesBucket()
    bucket.set_plan("default", Rules(recipients=["0x" + f"{place:040x}" for place in range(500)]))
    rules = WatchedRules(bucket, bucket)

    [one], [other] = (rules.of(EVERYBODY._replace(account_id=f"account-{n}")).scopes for n in (1, 2))

    assert one.terms is other.terms


@pytest.mark.parametrize("ask", [lambda rules: rules.of(EVERYBODY), lambda rules: rules.stops(JOB)])
def test_rules_that_were_never_loaded_refuse_with_503(ask: Any) -> None:
    with pytest.raises(PaymentRefusal) as refusal:
        ask(WatchedRules(RulesBucket(), RulesBucket(ready=False)))

    assert (refusal.value.status, refusal.value.reason) == (503, "rules_unknown")


def test_once_loaded_the_last_copy_counts() -> None:
    bucket = RulesBucket()
    bucket.limit("key", payments_per_second=2)
    rules = WatchedRules(bucket, bucket)
    rules.of(EVERYBODY)

    bucket.ready = False

    assert len(rules.of(EVERYBODY).rates) == 1
    assert rules.stops(JOB) == ()


@pytest.mark.parametrize("entry", [scope_entry(SCOPES["key"]), "stop.everything._", "stop.job_type.bGl2ZQ"])
def test_an_entry_that_cannot_be_read_refuses(entry: str, quote: QuoteMaker) -> None:
    bucket = RulesBucket()
    bucket.entries[entry] = b'{"what": "the moon", "rules": 5}'

    refusal = bucket.signer().refused(body(quote.text()))

    assert (refusal.status, refusal.reason) == (503, "rules_unknown")


def test_a_signer_without_rules_signs_nothing(quote: QuoteMaker) -> None:
    bucket = RulesBucket(ready=False)
    signer = bucket.signer()

    refusal = signer.refused("not even JSON")
    assert (refusal.status, refusal.reason, signer.stored()) == (503, "rules_unknown", 0)
    bucket.ready = True
    assert signer.pay(body(quote.text()))
