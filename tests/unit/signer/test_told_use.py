"""Whose key paid, and for which capability: told with each payment, stored only when it changes."""

from base64 import b64decode

import pytest

from contracts.message import Event
from contracts.signer import PaymentSigned, SessionOpened
from services.signer.asking import CAPABILITY_BYTES_MAX, capability_text
from services.signer.outbox import SignerOutbox
from tests.quotes import QuoteMaker, body
from tests.unit.signer.client import Signer
from tests.unit.signer.test_scopes import LIVE_VIDEO, TEXT_TO_IMAGE, capabilities

VIDEO = capabilities((LIVE_VIDEO, "a"))
IMAGE = capabilities((TEXT_TO_IMAGE, "b"), (LIVE_VIDEO, "a"))


def told(signer: Signer, outbox: SignerOutbox | None = None) -> list[Event]:
    outbox = outbox or SignerOutbox(signer.signing)
    recorder = signer.signing.recorder
    return [
        outbox.to_public(stored)[0] for stored in recorder.select_notifications(1, 1000, topics=outbox.topics)
    ]


def test_a_payment_tells_the_key_that_paid_and_what_was_asked_for(signer: Signer, quote: QuoteMaker) -> None:
    first = signer.pay(body(quote.text(), capabilities=VIDEO))
    signer.wait(5)
    second = signer.pay(body(quote.text(), state=first["state"], capabilities=IMAGE), key="key-2")
    signer.wait(5)
    before = signer.stored()
    signer.pay(body(quote.text(), state=second["state"]), key="key-2")

    events = told(signer)
    [opened] = [event for event in events if isinstance(event, SessionOpened)]
    paid = [event for event in events if isinstance(event, PaymentSigned)]
    video, both = "live-video-to-video/a", "live-video-to-video/a,text-to-image/b"
    assert (opened.key_id, opened.capability) == ("key-1", video)
    assert [(event.key_id, event.capability) for event in paid] == [
        ("key-1", video),
        ("key-2", both),
        ("key-2", both),  # who asks for nothing goes on with what was
    ]
    assert signer.stored() - before == 2  # nonces and payment: an unchanged use costs nothing
    assert told(signer) == events


def two_keys(signer: Signer, quote: QuoteMaker) -> None:
    """A session whose payments tell different facts."""
    first = signer.pay(body(quote.text(), capabilities=VIDEO))
    signer.wait(5)
    signer.pay(body(quote.text(), state=first["state"], capabilities=IMAGE), key="key-2")


def test_a_reader_from_the_beginning_is_told_the_same_and_reads_no_session_again(
    signer: Signer, quote: QuoteMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_keys(signer, quote)
    outbox = SignerOutbox(signer.signing)
    events = told(signer, outbox)
    monkeypatch.setattr(signer.signing.recorder, "select_events", None)

    assert told(signer, outbox) == events


@pytest.mark.parametrize("kept", [1, 2])
def test_what_is_not_kept_is_read_again(
    signer: Signer, quote: QuoteMaker, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    two_keys(signer, quote)
    signer.pay(body(quote.text()))  # another session
    events = told(signer)
    monkeypatch.setattr("services.signer.outbox.FACTS_MAX", kept)
    outbox = SignerOutbox(signer.signing)

    assert told(signer, outbox) == events
    outbox.forget()
    assert told(signer, outbox) == events


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ("", ""),
        (capabilities(listed=(0, 1), bits=(3,)), ""),
        (capabilities((LIVE_VIDEO, "a\n=b")), "live-video-to-video/a?=b"),
        (capabilities(listed=(LIVE_VIDEO,)), "live-video-to-video"),
    ],
)
def test_a_capability_is_text_that_can_be_counted_by(asked: str, text: str) -> None:
    assert capability_text(b64decode(asked)) == text


def test_a_long_capability_is_cut_off() -> None:
    text = capability_text(b64decode(capabilities((LIVE_VIDEO, "\u00e9" * 200))))

    assert CAPABILITY_BYTES_MAX - 1 <= len(text.encode()) <= CAPABILITY_BYTES_MAX
