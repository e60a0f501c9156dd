"""Emergency stops: who and what they stop, with which status, and until when."""

from datetime import timedelta

import pytest

from contracts.stops import StopKind
from services.signer.timeline import view
from tests.quotes import QuoteMaker, body
from tests.unit.signer.client import KEYS, START, Signer, sequence_of, state_of
from tests.unit.signer.rules_bucket import ACCOUNT, KEY, USER, RulesBucket

APP = "demo/echo"
PAYER = "0x" + KEYS[0].address.hex()
STOPS: list[tuple[StopKind, str, str]] = [
    ("everything", "", "another"),
    ("payer", PAYER, "0x" + "33" * 20),
    ("account", ACCOUNT, "account-2"),
    ("user", f"{ACCOUNT}:{USER}", "account-2:user-1"),
    ("key", KEY, "key-2"),
    ("job_type", "live", "lv2v"),
    ("app", APP, "demo/other"),
    ("recipient", "0x" + "00" * 19 + "08", "0x" + "00" * 19 + "09"),
    ("orchestrator_url", "https://orchestrator.test:8935", "https://other.test:8935"),
]
OF_WHO = [stop for stop in STOPS if stop[0] in {"everything", "payer", "account", "user", "key"}]


@pytest.fixture
def bucket() -> RulesBucket:
    return RulesBucket()


@pytest.fixture
def stoppable(bucket: RulesBucket) -> Signer:
    return bucket.signer()


@pytest.mark.parametrize("stop", STOPS, ids=lambda stop: stop[0])
def test_what_is_stopped_is_refused_and_signed_again_once_lifted(
    bucket: RulesBucket, stoppable: Signer, quote: QuoteMaker, stop: tuple[StopKind, str, str]
) -> None:
    what, value, other = stop
    text = body(quote.text(), app=APP)
    bucket.stop(what, value)

    refusal = stoppable.refused(text, user=USER)

    ours = what in {"everything", "payer"}
    assert (refusal.status, refusal.reason) == (503 if ours else 403, "signing_stopped")
    assert refusal.retry_after_seconds == (10 if ours else None)
    assert str(refusal).startswith("signing is stopped for ")
    assert "incident_42" in str(refusal)
    assert "somebody" not in str(refusal)
    bucket.lift(what, value)
    if what != "everything":
        bucket.stop(what, other)
    assert stoppable.pay(text, user=USER)


@pytest.mark.parametrize(("what", "value"), [stop[:2] for stop in OF_WHO])
def test_who_is_stopped_is_told_so_whatever_they_send(
    bucket: RulesBucket, stoppable: Signer, what: StopKind, value: str
) -> None:
    bucket.stop(what, value)

    assert stoppable.refused("not even JSON", user=USER).reason == "signing_stopped"


@pytest.mark.parametrize(("what", "value"), [stop[:2] for stop in STOPS if stop not in OF_WHO])
def test_what_cannot_be_read_is_no_job_that_is_stopped(
    bucket: RulesBucket, stoppable: Signer, what: StopKind, value: str
) -> None:
    bucket.stop(what, value)

    assert stoppable.refused("not even JSON").status == 400


@pytest.mark.parametrize(("what", "value"), [stop[:2] for stop in STOPS])
def test_a_running_session_stops_and_its_last_reply_is_not_told_again(
    bucket: RulesBucket, stoppable: Signer, quote: QuoteMaker, what: StopKind, value: str
) -> None:
    first = body(quote.text(), app=APP)
    reply = stoppable.pay(first, user=USER)
    following = body(quote.text(), app=APP, state=reply["state"])
    last = stoppable.pay(following, user=USER)

    bucket.stop(what, value)
    stored = stoppable.stored()

    for text in (first, following, body(quote.text(), app=APP, state=last["state"])):
        assert stoppable.refused(text, user=USER, grant=None).reason == "signing_stopped"
    assert stoppable.stored() - stored <= 1  # its trace
    bucket.lift(what, value)
    assert stoppable.pay(following, user=USER) == last


@pytest.mark.parametrize("what", ["everything", "app"])
def test_a_stop_ends_when_it_expires(
    bucket: RulesBucket, stoppable: Signer, quote: QuoteMaker, what: StopKind
) -> None:
    text = body(quote.text(), app=APP)
    bucket.stop(what, APP if what == "app" else "", expires_at=START + timedelta(seconds=3))

    stoppable.wait(2.999999)
    refusal = stoppable.refused(text)
    stoppable.wait(0.000001)

    assert refusal.retry_after_seconds == (1 if what == "everything" else None)
    assert stoppable.pay(text)


def test_what_was_granted_while_a_stop_came_is_not_signed(
    bucket: RulesBucket, stoppable: Signer, quote: QuoteMaker
) -> None:
    text = body(quote.text())
    stoppable.ask(text, grant=None)

    bucket.stop("account", ACCOUNT)

    assert stoppable.refused(text).reason == "signing_stopped"
    assert stoppable.stored() == 0


def test_an_orchestrator_is_the_same_in_capitals_and_with_a_slash(
    bucket: RulesBucket, stoppable: Signer, quote: QuoteMaker
) -> None:
    quote.url = "HTTPS://Orchestrator.test:8935/"
    bucket.stop("orchestrator_url", "https://orchestrator.test:8935")

    assert stoppable.refused(body(quote.text())).reason == "signing_stopped"


def test_jobs_without_an_app_can_be_stopped_too(
    bucket: RulesBucket, stoppable: Signer, quote: QuoteMaker
) -> None:
    bucket.stop("app", "")

    assert stoppable.refused(body(quote.text())).reason == "signing_stopped"
    assert stoppable.pay(body(quote.text(), app=APP))


@pytest.mark.parametrize(
    ("what", "value", "told"),
    [
        ("app", APP, "refused with 403 (signing_stopped): signing is stopped for this app (incident_42)"),
        ("key", KEY, "refused with 403 (signing_stopped): signing is stopped for this key (incident_42)"),
        ("everything", "", "503 (signing_stopped): signing is stopped for everybody (incident_42)"),
    ],
)
def test_a_stop_is_on_the_timeline_of_its_session_once(
    bucket: RulesBucket, stoppable: Signer, quote: QuoteMaker, *, what: StopKind, value: str, told: str
) -> None:
    reply = stoppable.pay(body(quote.text(), app=APP))
    bucket.stop(what, value)
    for _ in range(3):
        stoppable.wait(3)
        stoppable.refused(body(quote.text(), app=APP, state=reply["state"]))

    seen = view(stoppable.signing, ACCOUNT, state_of(reply)["StateID"])

    assert [entry.event for entry in seen.timeline].count("PaymentRefused") == 1
    assert seen.summary.endswith(told)
    bucket.lift(what, value)
    assert sequence_of(stoppable.pay(body(quote.text(), app=APP, state=reply["state"]))) == 1


def test_a_stopped_session_is_not_in_use_so_quota_gets_its_allowance_back(
    bucket: RulesBucket, stoppable: Signer, quote: QuoteMaker
) -> None:
    reply = stoppable.pay(body(quote.text(), app=APP))
    bucket.stop("app", APP)
    stoppable.wait(120)
    stoppable.refused(body(quote.text(), app=APP, state=reply["state"]))

    assert not stoppable.is_used(reply, idle_seconds=100)
