"""The signer against the vectors: go-livepeer's test constants and values computed apart from us."""

import json
from base64 import b64decode, b64encode
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from coincurve import PublicKey
from eth_account import Account
from eth_account.messages import encode_defunct

from services.signer import state
from services.signer.keys import LocalKey
from services.signer.quote import Quote, parse_quote
from services.signer.rules import billable_units, tickets_due
from services.signer.tickets import (
    EMPTY_HASH,
    TicketHasher,
    aux_data,
    encode_credentials,
    encode_payment,
    personal_digest,
    sign_address,
    sign_credentials,
    sign_tickets,
)
from shared.keccak import checksum_address, keccak
from shared.money import CERTAIN, Wei, batch_cost, expected_value, float_string

VECTORS = json.loads((Path(__file__).parents[2] / "vectors.json").read_text())


def unhex(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


@pytest.fixture
def key() -> LocalKey:
    return LocalKey(unhex(VECTORS["ticket_full"]["privateKey"]))


@pytest.fixture
def quote() -> Quote:
    return parse_quote(b64decode(VECTORS["orchestrator_info"]["base64"]))


def hasher(vector: dict[str, Any]) -> TicketHasher:
    made = TicketHasher.__new__(TicketHasher)
    numbers = int(vector["faceValue"]).to_bytes(32) + int(vector["winProb"], 0).to_bytes(32)
    made._head = unhex(vector["recipient"]) + unhex(vector["sender"]) + numbers  # noqa: SLF001
    aux = aux_data(int(vector["creationRound"]), unhex(vector["creationRoundBlockHash"]))
    made._tail = unhex(vector["recipientRandHash"]) + aux  # noqa: SLF001
    return made


@pytest.mark.parametrize("vector", VECTORS["ticket_hash"])
def test_ticket_hashes_are_go_livepeers(vector: dict[str, Any]) -> None:
    nonce = int(vector["senderNonce"])

    assert hasher(vector).flatten(nonce) == unhex(vector["flatten"])
    assert hasher(vector).ticket_hash(nonce) == unhex(vector["hash"])


@pytest.mark.parametrize("vector", VECTORS["aux_data"])
def test_aux_data_is_go_livepeers(vector: dict[str, Any]) -> None:
    made = aux_data(int(vector["creationRound"]), unhex(vector["creationRoundBlockHash"]))

    assert made == unhex(vector["auxData"])


def test_tickets_are_signed_as_eth_account_signs_them(key: LocalKey, quote: Quote) -> None:
    expected = VECTORS["ticket_full"]["tickets"]

    signatures = sign_tickets(key, quote, range(1, 1 + len(expected)))

    assert [made.hex() for made in signatures] == [unhex(ticket["sig"]).hex() for ticket in expected]
    for ticket, signature in zip(expected, signatures, strict=True):
        message = encode_defunct(primitive=unhex(ticket["hash"]))
        signer = Account.recover_message(message, signature=signature)
        assert signer == VECTORS["ticket_full"]["sender"]


def test_a_payment_is_byte_for_byte_the_vectors(key: LocalKey, quote: Quote) -> None:
    signatures = sign_tickets(key, quote, range(1, 3))

    assert encode_payment(quote, key.address, 1, signatures) == VECTORS["payment"]["base64"]


def test_our_address_is_signed_as_the_vector(key: LocalKey) -> None:
    response = VECTORS["sign_orchestrator_info"]["response"]

    assert sign_address(key) == (response["address"], response["signature"])
    assert "0x" + checksum_address(key.address.hex()) == VECTORS["ticket_full"]["sender"]


def test_segment_credentials_are_the_vectors(key: LocalKey, quote: Quote) -> None:
    vector = VECTORS["seg_creds"]
    assert quote.auth_token is not None

    signature = sign_credentials(key, vector["manifestId"])

    assert signature == unhex(vector["sig"])
    made = encode_credentials(vector["manifestId"], signature, quote.auth_token, b"")
    assert made == vector["base64"]
    assert unhex(VECTORS["empty_keccak"]) == EMPTY_HASH


def test_a_quote_is_read_as_the_vector_says(quote: Quote) -> None:
    vector = VECTORS["ticket_full"]

    assert quote.recipient == unhex(vector["recipient"])
    assert quote.face_value == int(vector["faceValue"])
    assert quote.win_prob == int(vector["winProb"], 0)
    assert quote.recipient_rand_hash == unhex(vector["recipientRandHash"])
    assert quote.expiration_block == int(vector["expirationBlock"])
    assert quote.price == Fraction(vector["price"])
    assert expected_value(Wei(quote.face_value), quote.win_prob) == Fraction(vector["evRat"])


@pytest.mark.parametrize("vector", VECTORS["ev"])
def test_expected_values_are_exact(vector: dict[str, Any]) -> None:
    face_value, win_prob = Wei(int(vector["faceValue"])), int(vector["winProb"], 0)

    assert expected_value(face_value, win_prob) == Fraction(vector["evRat"])
    assert float_string(Fraction(vector["evRat"]), 0) == vector["floatString0"]


@pytest.mark.parametrize("vector", VECTORS["float_string"])
def test_numbers_are_shown_as_go_shows_them(vector: dict[str, Any]) -> None:
    assert float_string(Fraction(vector["rat"]), int(vector["places"])) == vector["out"]


@pytest.mark.parametrize("vector", VECTORS["balance_updates"])
def test_balances_move_as_go_livepeers(vector: dict[str, Any]) -> None:
    price, ev, before = (Fraction(vector[name]) for name in ("price", "ev", "existing"))
    scale = price.denominator * ev.denominator * before.denominator
    fee = Fraction(vector["fee"])
    assert fee == price * vector["units"]

    tickets = tickets_due(
        balance=int(before * scale), fee=int(fee * scale), ev=int(ev * scale), may_spare=False
    )

    assert tickets == vector["numTickets"]
    if vector["status"] == 200:
        assert before + tickets * ev - fee == Fraction(vector["balanceAfter"])


@pytest.mark.parametrize("vector", VECTORS["billable"])
def test_units_are_billed_as_go_livepeer_does(vector: dict[str, Any]) -> None:
    # The clock counts microseconds: what is a nanosecond more to Go's, rounds a second up here.
    nanoseconds = int(Fraction(str(vector["seconds"])) * 10**9)
    micros = -(-nanoseconds // 1000) if vector["type"] == "live" else nanoseconds // 1000
    elapsed = timedelta(microseconds=micros) if vector["seconds"] else None

    assert billable_units(vector["type"], 0, elapsed) == vector["units"]


def test_the_state_is_laid_out_as_go_livepeers(key: LocalKey) -> None:
    vector = VECTORS["state"]
    fields = json.loads(vector["stateUtf8"])
    made = state.encode(
        state.State(
            state_id=fields["StateID"],
            pm_session_id=fields["PMSessionID"],
            last_update=fields["LastUpdate"],
            orchestrator_address=fields["OrchestratorAddress"],
            app=fields["App"],
            sender_nonce=fields["SenderNonce"],
            balance=Fraction(fields["Balance"]),
            initial_price_per_unit=fields["InitialPricePerUnit"],
            initial_pixels_per_unit=fields["InitialPixelsPerUnit"],
            job_type=fields["Type"],
            sequence=fields["SequenceNumber"],
        )
    )

    assert made == vector["stateUtf8"].encode()
    assert b64encode(made).decode() == vector["wire"]["State"]
    assert personal_digest(made) == unhex(vector["eip191Digest"])
    assert key.sign(personal_digest(made)) == b64decode(vector["wire"]["Sig"])


@pytest.mark.parametrize("vector", [v for v in VECTORS["sig_verify"] if v["valid"]])
def test_our_digest_recovers_the_vectors_signer(vector: dict[str, Any]) -> None:
    raw = unhex(vector["signature"])
    compact = raw[:64] + bytes([raw[64] - 27])

    public = PublicKey.from_signature_and_message(
        compact, personal_digest(unhex(vector["message"])), hasher=None
    )

    assert keccak(public.format(compressed=False)[1:])[-20:] == unhex(vector["address"])


@pytest.mark.parametrize(
    ("ev", "tickets", "cost"), [(1, 1, 1), (7, 100, 700), (8_000_000_000, 3, 24_000_000_001)]
)
def test_a_batch_costs_its_expected_value_rounded_up_once(ev: int, tickets: int, cost: int) -> None:
    face_value = Wei(ev * 125_000)
    win_prob = -(-ev * CERTAIN // face_value)

    assert batch_cost(face_value, win_prob, tickets) in {cost, ev * tickets, ev * tickets + 1}
    exact = expected_value(face_value, win_prob) * tickets
    assert exact <= batch_cost(face_value, win_prob, tickets) < exact + 1
