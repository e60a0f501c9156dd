"""Payments per second: a burst of a second's worth, then one by one, at each level."""

from datetime import timedelta

import pytest
from eventsourcing.persistence import IntegrityError

from services.signer.pace import Pace
from services.signer.refusal import PaymentRefusal
from tests.quotes import QuoteMaker, body
from tests.unit.signer.client import START, Signer, sequence_of
from tests.unit.signer.rules_bucket import SCOPES, WHO, RulesBucket

MICROSECOND = timedelta(microseconds=1)


@pytest.fixture
def bucket() -> RulesBucket:
    return RulesBucket()


@pytest.fixture
def limited(bucket: RulesBucket) -> Signer:
    return bucket.signer()


def texts(count: int) -> list[str]:
    """First payments of as many sessions."""
    quote = QuoteMaker(START)
    return [body(quote.text(), manifest_id=f"manifest-{n}") for n in range(count)]


def admitted(pace: Pace, rate: int, seconds: float) -> int:
    """How many are admitted at once then."""
    now = START + timedelta(seconds=seconds)
    return next(count for count in range(10**6) if not pace.take([("scope", rate)], now))


@pytest.mark.parametrize("level", SCOPES)
def test_beyond_the_pace_it_is_429_until_the_next_is_due(
    bucket: RulesBucket, limited: Signer, level: str
) -> None:
    bucket.limit(level, payments_per_second=2)
    first, second, third, fourth = texts(4)
    limited.pay(first, **WHO)
    limited.pay(second, **WHO)

    refusal = limited.refused(third, **WHO)

    assert (refusal.status, refusal.reason, refusal.retry_after_seconds) == (429, "rate_limited", 1)
    limited.wait(0.499999)
    assert limited.refused(third, **WHO).status == 429
    limited.wait(0.000001)
    assert limited.pay(third, **WHO)
    assert limited.refused(fourth, **WHO).status == 429


def test_a_refusal_leaves_the_store_alone(bucket: RulesBucket, limited: Signer) -> None:
    bucket.limit("key", payments_per_second=1)
    first, second = texts(2)
    limited.pay(first)
    stored = limited.stored()

    limited.refused(second)

    assert limited.stored() == stored


def test_what_one_level_refuses_counts_for_none(bucket: RulesBucket, limited: Signer) -> None:
    bucket.limit("account", payments_per_second=2)
    bucket.limit("user", payments_per_second=1)
    first, second, third, fourth = texts(4)
    limited.pay(first, user="user-1")
    limited.refused(second, user="user-1")

    assert limited.pay(third, user="user-2")
    assert limited.refused(fourth, user="user-2").reason == "rate_limited"


def test_a_repeat_of_what_was_signed_is_not_counted(
    bucket: RulesBucket, limited: Signer, quote: QuoteMaker
) -> None:
    bucket.limit("key", payments_per_second=1)
    text = body(quote.text())

    reply = limited.pay(text)

    assert [limited.pay(text) for _ in range(3)] == [reply] * 3
    assert limited.refused(body(quote.text(), state=reply["state"])).reason == "rate_limited"
    limited.wait(1)
    assert sequence_of(limited.pay(body(quote.text(), state=reply["state"]))) == 1


def test_the_same_words_for_another_session_are_counted(
    bucket: RulesBucket, limited: Signer, quote: QuoteMaker
) -> None:
    bucket.limit("key", payments_per_second=1)
    text = body(quote.text(), manifest_id="")

    limited.pay(text, request_id="1")

    assert limited.refused(text, request_id="2").reason == "rate_limited"


def test_one_that_waits_for_quota_is_counted_once(bucket: RulesBucket, limited: Signer) -> None:
    bucket.limit("key", payments_per_second=2)

    assert [limited.pay(text) for text in texts(2)]  # each was asked twice: before the grant and with it


def test_one_that_meets_another_replica_is_counted_once(
    bucket: RulesBucket, limited: Signer, quote: QuoteMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.limit("key", payments_per_second=1)
    save, conflicts = limited.signing.save, [IntegrityError("another was faster")] * 3

    def racing_save(*aggregates: object, **options: object) -> object:
        if conflicts:
            raise conflicts.pop()
        return save(*aggregates, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(limited.signing, "save", racing_save)

    assert limited.pay(body(quote.text()))


@pytest.mark.parametrize("refused_by", ["parsing", "stop", "scope"])
def test_what_is_refused_before_is_not_counted(
    bucket: RulesBucket, limited: Signer, quote: QuoteMaker, refused_by: str
) -> None:
    bucket.limit("key", payments_per_second=1, apps=["demo/echo"])
    bucket.stop("job_type", "lv2v")
    text = {
        "parsing": "not JSON",
        "stop": body(quote.text(), type="lv2v", app="demo/echo"),
        "scope": body(quote.text(), app="another"),
    }[refused_by]

    for _ in range(3):
        assert limited.refused(text).status in {400, 403}

    assert limited.pay(body(quote.text(), app="demo/echo"))


def test_what_is_refused_later_is_counted(bucket: RulesBucket, limited: Signer) -> None:
    bucket.limit("key", payments_per_second=1)
    quote = QuoteMaker(START, auth_seconds=0)

    statuses = [limited.refused(body(quote.text())).status for _ in range(2)]

    assert statuses == [480, 429]


def test_without_a_rate_nothing_is_counted(bucket: RulesBucket, limited: Signer) -> None:
    bucket.limit("key", job_types=["live"])

    assert all(not isinstance(limited.ask(text), PaymentRefusal) for text in texts(100))


def test_a_burst_is_one_seconds_worth_after_any_rest() -> None:
    pace = Pace()

    assert [admitted(pace, 5, at) for at in (0, 0, 1, 1.2, 1.399999, 1.4, 100)] == [5, 0, 5, 1, 0, 1, 5]


def test_a_pace_that_changes_frees_nothing() -> None:
    pace = Pace()
    admitted(pace, 5, 0)

    assert admitted(pace, 1000, 0) == 0
    assert admitted(pace, 1000, 0.5) == 500
    assert admitted(pace, 3, 0.5) == 0
    assert admitted(pace, 3, 0.5 + 1 / 3) in {0, 1}
    assert admitted(pace, 3, 5) == 3


def test_a_clock_that_steps_back_frees_nothing_and_nobody_waits_for_it_to_catch_up() -> None:
    pace = Pace()
    assert admitted(pace, 2, 3600) == 2

    assert admitted(pace, 2, 0) == 0
    assert [admitted(pace, 2, at) for at in (0.499999, 0.5, 10)] == [0, 1, 2]


def test_only_the_scopes_used_last_are_kept() -> None:
    pace = Pace(most=10)
    for number in range(100):
        assert pace.take([(f"scope-{number}", 1)], START)

    assert not pace.take([("scope-99", 1)], START)
    assert not pace.take([("scope-90", 1)], START)
    assert pace.take([("scope-89", 1)], START)
    assert len(vars(pace)["_due"]) == 10
