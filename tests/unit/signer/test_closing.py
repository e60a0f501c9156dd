"""Sessions are closed for quota, which then frees what they held."""

import json
from base64 import b64decode
from datetime import timedelta

from services.signer.application import Close
from services.signer.deciding import AllowanceNeeded, Grant
from services.signer.intent import PaymentRequest
from tests.quotes import QuoteMaker, body
from tests.unit.signer.client import RICH, START, Signer


def test_a_closed_session_asks_quota_anew(signer: Signer, quote: QuoteMaker) -> None:
    first = signer.pay(body(quote.text()))
    session_id = json.loads(b64decode(first["state"]["State"]))["StateID"]
    signer.signing.close_all([Close("account-1", session_id, 1, 0)], START)
    signer.wait(10)
    text = body(quote.text(), state=first["state"])

    wish = signer.ask(text, grant=None)
    stale = signer.signing.sign_all(
        [PaymentRequest("account-1", "key-1", None, None, text)], signer.now, {0: Grant(1, RICH)}
    )

    assert isinstance(wish, AllowanceNeeded)
    assert wish.number == 2
    assert isinstance(stale[0], AllowanceNeeded)  # a grant from before the close is void
    assert signer.pay(text)


def test_a_close_is_stored_once_and_voids_later_grants(signer: Signer) -> None:
    for ask_number in (1, 1, 2, 2):
        signer.signing.close_all([Close("account-1", "never-opened", ask_number, 0)], START)

    session = signer.signing.session("account-1", "never-opened")
    assert (session.version, session.asks, session.closed) == (3, 2, True)


def test_a_close_is_told_again_while_quota_goes_on_asking(signer: Signer) -> None:
    """Quota may have granted a late copy of an old ask; nothing else would ever free it."""
    close = Close("account-1", "never-opened", 1, 0)
    for seconds in (0, 5, 29, 31, 40, 62):
        signer.signing.close_all([close], START + timedelta(seconds=seconds))

    assert signer.signing.session("account-1", "never-opened").version == 4  # named, closed three times


def test_a_session_in_use_is_not_closed(signer: Signer, quote: QuoteMaker) -> None:
    first = signer.pay(body(quote.text()))
    session_id = json.loads(b64decode(first["state"]["State"]))["StateID"]
    signer.wait(5)
    signer.ask(body(quote.text(), state=first["state"]), grant=None)

    busy = signer.signing.close_all([Close("account-1", session_id, 1, 60)], signer.now)

    assert busy == [session_id]
    assert not signer.signing.session("account-1", session_id).closed


def test_many_sessions_are_closed_in_one_commit(signer: Signer, quote: QuoteMaker) -> None:
    replies = [signer.pay(body(quote.text(), manifest_id=f"m{number}")) for number in range(5)]
    ids = [json.loads(b64decode(reply["state"]["State"]))["StateID"] for reply in replies]

    busy = signer.signing.close_all([Close("account-1", each, 1, 0) for each in [*ids, "unknown"]], START)

    assert busy == []
    assert all(signer.signing.session("account-1", each).closed for each in [*ids, "unknown"])
