"""Session tokens at the signer: whose session it is, and whose allowance is asked for."""

from typing import Any

from services.signer.deciding import AllowanceNeeded
from tests.quotes import QuoteMaker, body
from tests.unit.signer.client import Signer, sequence_of, state_of

BOUND: dict[str, Any] = {"user": "user-1", "user_bound": True}


def test_an_ask_and_the_session_name_the_token(signer: Signer, quote: QuoteMaker) -> None:
    ask = signer.ask(body(quote.text()), grant=None, token_id="token-1", **BOUND)
    assert isinstance(ask, AllowanceNeeded)
    assert (ask.key_id, ask.token_id) == ("key-1", "token-1")

    reply = signer.pay(body(quote.text()), token_id="token-1", **BOUND)

    session = signer.signing.session("account-1", state_of(reply)["StateID"])
    assert (session.user_id, session.token_id) == ("user-1", "token-1")


def test_a_users_next_token_goes_on_with_the_session(signer: Signer, quote: QuoteMaker) -> None:
    """Tokens are short-lived, streams are not; another user's token is none of it."""
    paid = signer.pay(body(quote.text()), token_id="token-1", **BOUND)
    signer.wait(10)
    following = body(quote.text(), state=paid["state"])

    refusal = signer.refused(following, token_id="token-2", user="user-2", user_bound=True)

    assert (refusal.status, str(refusal)) == (400, "invalid sig")
    assert sequence_of(signer.pay(following, token_id="token-2", **BOUND)) == 1


def test_a_token_opens_sessions_of_its_own(signer: Signer, quote: QuoteMaker) -> None:
    """The same ManifestID and params, which an orchestrator names: not one session."""
    first = body(quote.text())

    sessions = {
        state_of(signer.pay(first, token_id=token, **BOUND))["StateID"]
        for token in ("token-1", "token-2", None)
    }

    assert len(sessions) == 3


def test_a_token_of_an_account_may_go_on_with_its_sessions(signer: Signer, quote: QuoteMaker) -> None:
    paid = signer.pay(body(quote.text()), token_id="token-1")
    signer.wait(10)

    assert sequence_of(signer.pay(body(quote.text(), state=paid["state"]), token_id="token-2")) == 1
