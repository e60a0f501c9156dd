"""Tickets, tokens and signatures against the known vectors."""

import json
from base64 import b64decode
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from contracts.livepeer import payments_pb2 as pb
from tilt.orchestrator.addresses import Address, address_of_bytes, checksummed, parse_address
from tilt.orchestrator.auth_tokens import AuthTokens
from tilt.orchestrator.headers import flatten_segment
from tilt.orchestrator.messages import decode_params, decode_price, encode_params
from tilt.orchestrator.signatures import is_signed_by, keccak256, personal_digest
from tilt.orchestrator.tickets import (
    CERTAIN,
    Ticket,
    TicketParams,
    Wei,
    issue,
    rand_hash,
    recipient_rand,
    win_prob_for,
    wins,
)

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[2] / "vectors.json").read_text())
FULL = VECTORS["ticket_full"]


def raw(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def params_of(vector: dict[str, Any]) -> TicketParams:
    return TicketParams(
        recipient=parse_address(vector["recipient"]),
        face_value=Wei(int(vector["faceValue"])),
        win_prob=int(vector["winProb"], 0),
        recipient_rand_hash=raw(vector["recipientRandHash"]),
        seed=int(vector.get("seed", "0"), 0),
        expiration_block=vector.get("expirationBlock", 0),
        creation_round=vector["creationRound"],
        creation_round_block_hash=raw(vector["creationRoundBlockHash"]),
    )


@pytest.mark.parametrize("vector", VECTORS["ticket_hash"])
def test_a_ticket_flattens_and_hashes_as_go_livepeers(vector: dict[str, Any]) -> None:
    ticket = Ticket(params_of(vector), parse_address(vector["sender"]), vector["senderNonce"])

    assert ticket.flatten() == raw(vector["flatten"])
    assert ticket.hash() == raw(vector["hash"])


@pytest.mark.parametrize("vector", VECTORS["aux_data"])
def test_aux_data_is_round_and_hash_or_nothing(vector: dict[str, Any]) -> None:
    params = params_of({**FULL, **vector})

    assert params.aux_data == raw(vector["auxData"])


@pytest.mark.parametrize("vector", VECTORS["sig_verify"])
def test_a_signature_counts_in_one_form_only(vector: dict[str, Any]) -> None:
    address = raw(vector.get("address", "0x3BadDb1eeE2105893136A3F96c8a963E9C6309d6"))

    assert is_signed_by(address, raw(vector["message"]), raw(vector["signature"])) is vector["valid"]


@pytest.mark.parametrize("v", [0, 1, 26, 29, 255])
def test_a_signature_ends_in_27_or_28(v: int) -> None:
    vector = VECTORS["sig_verify"][0]
    signature = raw(vector["signature"])[:64] + bytes([v])

    assert not is_signed_by(raw(vector["address"]), raw(vector["message"]), signature)


def test_noise_is_nobodys_signature() -> None:
    noise = bytes(64) + bytes([27])

    assert not is_signed_by(bytes(20), b"message", noise)


def test_the_preimage_of_a_quote_is_an_hmac_over_all_of_it() -> None:
    rand = recipient_rand(
        params_of(FULL),
        secret=raw(FULL["recipientSecret"]),
        sender=parse_address(FULL["sender"]),
        price=Fraction(FULL["price"]),
    )

    assert rand == int(FULL["recipientRand"], 0)
    assert rand_hash(rand) == raw(FULL["recipientRandHash"])


def test_a_price_not_in_lowest_terms_gives_the_same_preimage() -> None:
    rand = recipient_rand(
        params_of(FULL),
        secret=raw(FULL["recipientSecret"]),
        sender=parse_address(FULL["sender"]),
        price=Fraction(3000, 14),
    )

    assert rand == int(FULL["recipientRand"], 0)


@pytest.mark.parametrize("signed", FULL["tickets"])
def test_a_signed_ticket_is_verified_and_drawn(signed: dict[str, Any]) -> None:
    ticket = Ticket(params_of(FULL), parse_address(FULL["sender"]), signed["senderNonce"])
    signature, rand = raw(signed["sig"]), int(FULL["recipientRand"], 0)

    assert ticket.flatten() == raw(signed["flatten"])
    assert ticket.hash() == raw(signed["hash"])
    assert personal_digest(ticket.hash()) == raw(signed["eip191Digest"])
    assert is_signed_by(ticket.sender, ticket.hash(), signature)
    assert wins(signature, rand, ticket.params.win_prob) is signed["wins"]
    assert wins(signature, rand, int(signed["lotteryValue"], 0) + 1)
    assert not wins(signature, rand, int(signed["lotteryValue"], 0))


def test_win_prob_zero_never_wins_and_certainty_does() -> None:
    vector = VECTORS["recipient_win_check_max"]
    signature, rand = raw(vector["sig"]), int(vector["recipientRand"])

    assert not wins(signature, rand, 0)
    assert wins(signature, rand, CERTAIN)
    assert wins(signature, rand, int(vector["hash"], 0) + 1)
    assert not wins(signature, rand, int(vector["hash"], 0))
    assert rand_hash(rand) == raw(vector["recipientRandHash"])


@pytest.mark.parametrize("vector", VECTORS["win_prob"])
def test_win_prob_gives_the_expected_value(vector: dict[str, Any]) -> None:
    face_value = Wei(int(vector["faceValue"]))
    win_prob = win_prob_for(Wei(int(vector["ev"])), face_value)

    assert win_prob == int(vector["winProb"])
    assert Fraction(face_value * win_prob, CERTAIN) == Fraction(vector["evRat"])


@pytest.mark.parametrize("vector", VECTORS["ev"])
def test_expected_value_is_exact(vector: dict[str, Any]) -> None:
    params = params_of({**FULL, "faceValue": vector["faceValue"], "winProb": vector["winProb"]})

    assert params.expected_value == Fraction(vector["evRat"])


def test_an_issued_quote_proves_itself() -> None:
    sender, price, secret = parse_address(FULL["sender"]), Fraction(7, 3), bytes(32)

    issued = issue(params_of(FULL), secret=secret, sender=sender, price=price)

    rand = recipient_rand(issued, secret=secret, sender=sender, price=price)
    assert rand_hash(rand) == issued.recipient_rand_hash
    assert issued.seed != params_of(FULL).seed


def test_an_auth_token_is_an_hmac_of_session_and_expiration() -> None:
    vector = VECTORS["auth_token"]
    tokens = AuthTokens(raw(vector["orchSecret"]))

    token = tokens.issue(vector["sessionId"], expires_at=vector["expiration"])

    assert token.token == raw(vector["token"])
    assert tokens.is_genuine(token)


@pytest.mark.parametrize(
    "forged", [{"session_id": "ffffffff"}, {"expiration": 1}, {"expiration": -1}, {"token": b""}]
)
def test_a_changed_auth_token_is_not_genuine(forged: dict[str, Any]) -> None:
    vector = VECTORS["auth_token"]
    tokens = AuthTokens(raw(vector["orchSecret"]))
    token = tokens.issue(vector["sessionId"], expires_at=vector["expiration"])
    token.MergeFrom(pb.AuthToken(**forged))
    if forged.get("token") == b"":
        token.ClearField("token")

    assert not tokens.is_genuine(token)


def test_a_payment_decodes_to_its_ticket() -> None:
    payment = pb.Payment.FromString(raw(VECTORS["payment"]["proto"]))

    assert decode_params(payment) == params_of(FULL)
    assert decode_price(payment) == Fraction(FULL["price"])
    assert address_of_bytes(payment.sender) == parse_address(FULL["sender"])
    assert [signed.sig for signed in payment.ticket_sender_params] == [
        raw(signed["sig"]) for signed in FULL["tickets"]
    ]


def test_params_encode_as_in_a_quote() -> None:
    info = pb.OrchestratorInfo.FromString(b64decode(VECTORS["orchestrator_info"]["base64"]))

    assert encode_params(params_of(FULL)) == info.ticket_params


def test_segment_credentials_flatten_to_what_was_signed() -> None:
    vector = VECTORS["seg_creds"]
    segment = pb.SegData.FromString(raw(vector["segDataProto"]))

    assert flatten_segment(segment) == raw(vector["flatten"])
    assert keccak256(flatten_segment(segment)) == raw(vector["keccakFlatten"])
    assert is_signed_by(parse_address(FULL["sender"]), raw(vector["keccakFlatten"]), raw(vector["sig"]))


def test_addresses_are_read_and_written_with_their_checksum() -> None:
    text = FULL["sender"]

    assert checksummed(parse_address(text)) == text
    assert parse_address(text[2:].lower()) == parse_address(text)


@pytest.mark.parametrize("text", ["", "0x", "0x12", "0x" + "g" * 40, "0x" + "1" * 41, " " * 40, "é" * 40])
def test_what_is_not_an_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_address(text)


@pytest.mark.parametrize(
    ("given", "kept"),
    [(b"", bytes(20)), (b"\x01", bytes(19) + b"\x01"), (b"\xff" * 3 + b"\x02" * 20, b"\x02" * 20)],
)
def test_address_bytes_are_cut_or_padded_on_the_left(given: bytes, kept: bytes) -> None:
    assert address_of_bytes(given) == Address(kept)
