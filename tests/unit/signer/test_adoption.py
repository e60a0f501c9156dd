"""States of a go-livepeer signer that had the same key: taken over only if a setting says so."""

import json
from base64 import b64decode, b64encode
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from services.signer.keys import LocalKey
from services.signer.tickets import personal_digest
from tests.quotes import QuoteMaker, body
from tests.unit.signer.client import START, Signer, nonces, sequence_of, state_of

VECTORS = json.loads((Path(__file__).parents[2] / "vectors.json").read_text())
KEY = LocalKey(bytes.fromhex(VECTORS["ticket_full"]["privateKey"].removeprefix("0x")))
OLD_HASH = b"\x33" * 32
ORCHESTRATOR = bytes(19) + b"\x07"


def foreign_state(key: LocalKey = KEY, **changes: Any) -> dict[str, str]:
    """As go-livepeer writes and signs it: the vector's layout, EIP-191 over the bytes."""
    fields = json.loads(VECTORS["state"]["stateUtf8"]) | {
        "PMSessionID": "0x" + OLD_HASH.hex(),
        "LastUpdate": "2026-03-01T11:59:55.123456789Z",
        "OrchestratorAddress": "0x" + ORCHESTRATOR.hex(),
        "App": "",
        "SenderNonce": 17,
        "Balance": "125/2",
        "InitialPricePerUnit": 10,
        "InitialPixelsPerUnit": 1,
        "Type": "live",
        "SequenceNumber": 4,
        **changes,
    }
    raw = json.dumps(fields, separators=(",", ":")).encode()
    signed = key.sign(personal_digest(raw))
    return {"State": b64encode(raw).decode(), "Sig": b64encode(signed).decode()}


@pytest.fixture
def signer() -> Signer:
    return Signer(keys=[KEY], adopts_foreign_states=True)


@pytest.fixture
def old_quote() -> QuoteMaker:
    return QuoteMaker(START, recipient_rand_hash=OLD_HASH)


def test_the_vectors_own_state_is_recognised(signer: Signer, quote: QuoteMaker) -> None:
    vector = VECTORS["state"]
    fields = json.loads(vector["stateUtf8"])
    quote.address = bytes.fromhex(fields["OrchestratorAddress"].removeprefix("0x"))

    refusal = signer.refused(body(quote.text(), state=vector["wire"], app=fields["App"], type=fields["Type"]))

    assert refusal.status == 480


def test_without_the_setting_it_is_a_bad_signature(old_quote: QuoteMaker) -> None:
    refusal = Signer(keys=[KEY]).refused(body(old_quote.text(), state=foreign_state()))

    assert (refusal.status, str(refusal)) == (400, "invalid sig")


def test_it_is_sent_for_new_params_first_and_goes_on_under_those(
    signer: Signer, old_quote: QuoteMaker, quote: QuoteMaker
) -> None:
    state = foreign_state()

    first = signer.refused(body(old_quote.text(), state=state))
    again = signer.refused(body(old_quote.text(), state=state))
    reply = signer.pay(body(quote.text(), state=state))

    assert (first.status, again.status, first.orchestrator_url) == (480, 480, old_quote.url)
    assert (nonces(reply), sequence_of(reply)) == ([1], 5)
    # 62.5 wei were left; 5 s at 10 wei were used since, and a ticket of 100 wei was signed.
    session = signer.signing.session("account-1", state_of(reply)["StateID"])
    assert Fraction(125, 2) + 100 - 50 <= session.balance_wei < Fraction(125, 2) + 100 - 50 + 1
    assert (int(session.price), session.sequence) == (10, 5)


def test_from_then_on_it_is_a_session_of_ours(
    signer: Signer, old_quote: QuoteMaker, quote: QuoteMaker
) -> None:
    state = foreign_state()
    signer.refused(body(old_quote.text(), state=state))
    text = body(quote.text(), state=state)
    reply = signer.pay(text)

    assert signer.pay(text) == reply  # a lost reply
    signer.wait(10)
    following = signer.pay(body(quote.text(), state=reply["state"]))
    assert sequence_of(following) == 6
    signer.wait(10)
    quote.auth_seconds += 1  # other bytes: the same would be a copy of what was answered
    older = signer.pay(body(quote.text(), state=state))  # the foreign state again continues ours
    assert sequence_of(older) == 7


def test_the_params_it_was_first_shown_with_are_never_signed(
    signer: Signer, old_quote: QuoteMaker, quote: QuoteMaker
) -> None:
    signer.refused(body(quote.text(), state=foreign_state()))

    for maker in (quote, old_quote):
        assert signer.refused(body(maker.text(), state=foreign_state())).status == 480
    assert signer.signing.recorder.max_notification_id() == 1  # the announcement


def test_it_belongs_to_the_first_account_that_shows_it(
    signer: Signer, old_quote: QuoteMaker, quote: QuoteMaker
) -> None:
    signer.refused(body(old_quote.text(), state=foreign_state()))

    refusal = signer.refused(body(quote.text(), state=foreign_state()), account="account-2")

    assert str(refusal) == "invalid sig"
    assert signer.pay(body(quote.text(), state=foreign_state()))


def test_another_keys_state_is_a_bad_signature(signer: Signer, quote: QuoteMaker) -> None:
    state = foreign_state(key=LocalKey(b"\x22" * 32))

    assert str(signer.refused(body(quote.text(), state=state))) == "invalid sig"


@pytest.mark.parametrize("index", [0, 40, 64])
def test_a_changed_signature_is_bad(signer: Signer, quote: QuoteMaker, index: int) -> None:
    state = foreign_state()
    raw = bytearray(b64decode(state["Sig"]))
    raw[index] ^= 1
    state["Sig"] = b64encode(raw).decode()

    assert str(signer.refused(body(quote.text(), state=state))) == "invalid sig"


@pytest.mark.parametrize(
    ("changes", "asked", "text"),
    [
        ({"OrchestratorAddress": "0x" + "00" * 20}, {}, "orchestratorAddress mismatch"),
        ({"App": "mine"}, {}, "app mismatch"),
        ({"Type": "lv2v"}, {}, "job type mismatch"),
        ({"InitialPricePerUnit": 0}, {}, "invalid initial price in state"),
        ({"InitialPixelsPerUnit": -1}, {}, "invalid initial price in state"),
        ({"StateID": ""}, {}, "invalid state"),
        ({"LastUpdate": "yesterday"}, {}, "invalid state"),
        ({"SequenceNumber": "x"}, {}, "invalid state"),
    ],
)
def test_what_does_not_fit_is_400_in_go_livepeers_words(
    signer: Signer, quote: QuoteMaker, changes: dict[str, Any], asked: dict[str, Any], text: str
) -> None:
    refusal = signer.refused(body(quote.text(), state=foreign_state(**changes), **asked))

    assert (refusal.status, str(refusal)) == (400, text)
    assert signer.stored() == 0


@pytest.mark.parametrize("balance", ["", "junk", "1e999999999", "1/0"])
def test_a_balance_that_is_none_counts_as_zero(
    signer: Signer, old_quote: QuoteMaker, quote: QuoteMaker, balance: str
) -> None:
    state = foreign_state(Balance=balance)
    signer.refused(body(old_quote.text(), state=state))

    reply = signer.pay(body(quote.text(), state=state))

    session = signer.signing.session("account-1", state_of(reply)["StateID"])
    assert int(session.balance_wei) == 50


def test_a_state_that_was_never_paid_starts_its_clock_now(
    signer: Signer, old_quote: QuoteMaker, quote: QuoteMaker
) -> None:
    state = foreign_state(LastUpdate="0001-01-01T00:00:00Z", Balance="0")
    signer.refused(body(old_quote.text(), state=state))

    assert nonces(signer.pay(body(quote.text(), state=state))) == [1]
