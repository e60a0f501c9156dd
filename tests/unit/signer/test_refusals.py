"""What refused payments leave behind, and what keeps one job from being paid for twice."""

from typing import Any

import pytest

from services.signer.application import Close
from services.signer.deciding import AllowanceNeeded
from services.signer.domain.session import PaymentSession
from services.signer.timeline import view
from tests.quotes import QuoteMaker, body
from tests.unit.signer.client import Signer, nonces, state_of


def timeline_of(signer: Signer, reply: dict[str, Any]) -> list[str]:
    entries = view(signer.signing, "account-1", state_of(reply)["StateID"]).timeline
    return [entry.text for entry in entries if entry.event == "PaymentRefused"]


def test_the_same_reason_is_noted_ever_more_rarely(signer: Signer, quote: QuoteMaker) -> None:
    first = signer.pay(body(quote.text()))
    text = body(quote.text(), state=first["state"], app="another")

    for _ in range(100):  # 300 s
        signer.refused(text)
        signer.wait(3)

    # At 0, then after 10, 20, 40, 80 seconds more.
    assert timeline_of(signer, first) == ["refused with 400 (bad_request): app mismatch"] * 5


def test_another_reason_is_noted_at_once_and_a_payment_begins_anew(signer: Signer, quote: QuoteMaker) -> None:
    first = signer.pay(body(quote.text()))
    state = first["state"]
    signer.wait(10)

    signer.refused(body(quote.text(), state=state, app="another"))
    ceiling = {"price": 1, "currency": "wei", "unit": "seconds"}
    signer.refused(body(quote.text(), state=state, maxPrice=ceiling))
    paid = signer.pay(body(quote.text(), state=state))
    signer.refused(body(quote.text(), state=paid["state"], app="another"))

    assert [text.split(":")[0] for text in timeline_of(signer, first)] == [
        "refused with 400 (bad_request)",
        "refused with 481 (price_too_high)",
        "refused with 400 (bad_request)",
    ]


def test_snapshots_from_before_are_read(signer: Signer, quote: QuoteMaker) -> None:
    reply = signer.pay(body(quote.text()))
    session = signer.signing.session("account-1", state_of(reply)["StateID"])
    snapshot = PaymentSession.Snapshot.take(session)
    assert snapshot.state.pop("class_version") == 5
    snapshot.state["refused_at"] = None
    for later in ("refused_seconds", "digests", "continued_at", "closed_at", "token_id", "capability"):
        del snapshot.state[later]

    old = snapshot.mutate(None)

    assert isinstance(old, PaymentSession)
    assert (old.refused_at, old.refused_seconds) == ({}, {})
    assert (old.digests, old.continued_at, old.closed_at) == ([old.last_digest], None, None)
    assert (old.token_id, old.capability) == (None, "")


def test_the_summary_says_why_a_stream_stopped(signer: Signer, quote: QuoteMaker) -> None:
    reply = signer.pay(body(quote.text()))
    session_id = state_of(reply)["StateID"]

    def summary() -> str:
        return view(signer.signing, "account-1", session_id).summary

    assert summary() == "Last paid at 2026-03-01T12:00:00Z. Nothing was refused since."
    signer.wait(5)
    signer.signing.note_refusal(
        "account-1", session_id, status=402, reason="limit", message="spent", now=signer.now
    )
    assert summary() == "Last paid at 2026-03-01T12:00:00Z. Since then refused with 402 (limit): spent"
    signer.pay(body(quote.text(), state=reply["state"]))
    signer.signing.close_all([Close("account-1", session_id, 1, 0)], signer.now)
    assert summary().startswith("Last paid at 2026-03-01T12:00:05Z. Closed")


def test_a_tombstone_says_what_it_is(signer: Signer) -> None:
    signer.signing.close_all([Close("account-1", "never-opened", 1, 0)], signer.now)

    assert "Closed before it opened" in view(signer.signing, "account-1", "never-opened").summary


def test_a_job_that_was_just_paid_upfront_is_not_paid_again(signer: Signer) -> None:
    """Seven challenges of one runner, each with params and a ManifestID of its own."""
    outcomes = [
        signer.ask(
            body(QuoteMaker(signer.now).text(), type="fixed", manifest_id=f"m{number}"), job_id="job-1"
        )
        for number in range(7)
    ]

    assert isinstance(outcomes[0], str)
    assert {getattr(outcome, "status", 200) for outcome in outcomes[1:]} == {482}


@pytest.mark.parametrize("who", [{"stream": "stream-1"}, {"job_id": "job-1"}])
def test_another_job_or_the_next_one_is_paid(signer: Signer, who: dict[str, Any]) -> None:
    first = signer.pay(body(QuoteMaker(signer.now).text()), **who)
    others: list[dict[str, Any]] = [dict.fromkeys(who, "other"), {}]
    for number, other in enumerate(others):
        assert signer.pay(body(QuoteMaker(signer.now).text(), manifest_id=f"o{number}"), **other)
    assert signer.pay(body(QuoteMaker(signer.now).text(), manifest_id="theirs"), account="account-2", **who)

    assert signer.refused(body(QuoteMaker(signer.now).text(), manifest_id="b"), **who).status == 482
    signer.wait(10)
    assert signer.pay(body(QuoteMaker(signer.now).text(), manifest_id="b"), **who)
    assert nonces(first) == [1]


def test_a_job_that_was_paid_further_may_begin_elsewhere(signer: Signer, quote: QuoteMaker) -> None:
    first = signer.pay(body(quote.text()), stream="stream-1")
    signer.wait(3)
    signer.pay(body(quote.text(), state=first["state"]), stream="stream-1")

    assert signer.pay(body(QuoteMaker(signer.now).text(), manifest_id="b"), stream="stream-1")


def test_an_orchestrator_swap_of_a_stream_is_paid(signer: Signer, quote: QuoteMaker) -> None:
    signer.pay(body(quote.text()), stream="stream-1")
    other = QuoteMaker(signer.now, address=b"\x09" * 20)

    assert signer.pay(body(other.text(), manifest_id="b"), stream="stream-1")


def test_the_same_request_again_gets_its_answer_again(signer: Signer, quote: QuoteMaker) -> None:
    first = signer.pay(body(quote.text()), job_id="job-1")

    assert signer.pay(body(quote.text()), job_id="job-1") == first


def test_a_job_whose_ask_was_refused_may_ask_again(signer: Signer, quote: QuoteMaker) -> None:
    wish = signer.ask(body(quote.text()), grant=None, job_id="job-1")

    assert isinstance(wish, AllowanceNeeded)
    assert signer.pay(body(QuoteMaker(signer.now).text(), manifest_id="b"), job_id="job-1")
