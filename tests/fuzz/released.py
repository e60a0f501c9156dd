"""What a released answer has to be: the tickets that were quoted, signed by the payer, and no more.

Protocol §1.3, §2 and §4, read with the predicate's own reader; nothing of the services is imported.
"""

import json
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from coincurve import PublicKey
from sha3 import keccak_256

from tests.fuzz.predicate import TICKETS_MAX, Allowed, Session, Terms
from tests.fuzz.quoted import CERTAIN, Quote
from tests.fuzz.wire_format import Message, NotProtobufError, Value, read, write, write_message

SIGNATURE_BYTES = 65
HALF_OF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
FIRST_NONCE_MAX, NONCES_MAX = 500, 600  # 480 once 500 are taken; orchestrators count to 600
EMPTY_HASH = keccak_256(b"").digest()
PROFILES = b"invalid"
CREDENTIAL_FIELDS = {1, 3, 4, 5, 7, 8}
PRICE_FIELDS, TOKEN_FIELDS = 4, 3


class NotAsQuotedError(Exception):
    """An answer that should never have been released; says what is wrong with it."""


@dataclass(frozen=True)
class Answer:
    """A released answer, opened and found right."""

    rand_hash: bytes
    nonces: range
    cost: Fraction  # expected value of all tickets, wei
    state: tuple[bytes, bytes]
    session: Session
    session_id: str


def check_answer(text: str, allowed: Allowed, payer: bytes, terms: Terms) -> Answer:
    """Return what the answer gives away, or raise NotAsQuotedError."""
    try:
        reply = json.loads(text)
        _require(set(reply) == {"payment", "segCreds", "state"}, f"keys {sorted(reply)}")
        nonces = _check_payment(_decoded(reply["payment"]), allowed.quote, payer, terms)
        _check_credentials(read(_decoded(reply["segCreds"])), allowed, payer)
        return _answer(reply["state"], allowed, nonces)
    except (ValueError, KeyError, TypeError, NotProtobufError) as problem:
        raise NotAsQuotedError(f"unreadable: {problem!r}") from problem


def keccak(data: bytes) -> bytes:
    digest: bytes = keccak_256(data).digest()
    return digest


def signatures_of(text: str) -> set[bytes]:
    """The signatures of an answer's tickets; none if it is no answer."""
    try:
        payment = read(_decoded(json.loads(text)["payment"]))
        return {ticket.data(2) for ticket in payment.messages(4)}
    except (ValueError, KeyError, TypeError, NotProtobufError):
        return set()


def _decoded(text: str) -> bytes:
    return b64decode(text, validate=True)


def _check_payment(payment: bytes, quote: Quote, payer: bytes, terms: Terms) -> range:
    tickets = [(ticket.uint32(1), ticket.data(2)) for ticket in read(payment).messages(4)]
    _require(0 < len(tickets) <= TICKETS_MAX, f"{len(tickets)} tickets")
    first = tickets[0][0]
    nonces = range(first, first + len(tickets))
    _require([nonce for nonce, _ in tickets] == list(nonces), "nonces not consecutive")
    _require(1 <= first <= FIRST_NONCE_MAX and nonces[-1] <= NONCES_MAX, f"nonces {nonces}")
    _require(payment == _expected_payment(quote, payer, tickets), "payment not as quoted")
    _require(quote.ev <= terms.max_ticket_ev, "ticket EV over its cap")
    _require(len(tickets) * quote.ev <= terms.max_total_ev, "total EV over its cap")
    for nonce, signature in tickets:
        _require_signed(keccak(_flatten(quote, payer, nonce)), signature, payer, f"ticket {nonce}")
    return nonces


def _expected_payment(quote: Quote, payer: bytes, tickets: Sequence[tuple[int, bytes]]) -> bytes:
    """The one way to encode what was quoted: minimal integers, fields in order, zeros left out."""
    params = [
        (1, quote.recipient),
        (2, minimal(quote.face_value)),
        (3, minimal(quote.win_prob)),
        (4, quote.rand_hash),
        (5, minimal(quote.seed)),
        (6, minimal(quote.expiration_block)),
    ]
    parts = [
        write_message(1, write(params)),
        write([(2, payer)]),
        write_message(3, write([(1, quote.round), (2, quote.round_hash)])),
    ]
    parts += [write_message(4, write([(1, nonce), (2, signature)])) for nonce, signature in tickets]
    price = quote.price_info
    fields: list[tuple[int, Value]] = [
        (1, price.integer(1)),
        (2, price.integer(2)),
        (3, price.uint32(3)),
        (4, price.data(4)),
    ]
    return b"".join([*parts, write_message(5, write(fields))])


def minimal(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8)


def _flatten(quote: Quote, payer: bytes, nonce: int) -> bytes:
    numbers = b"".join(number.to_bytes(32) for number in (quote.face_value, quote.win_prob, nonce))
    made_at = quote.round.to_bytes(32) + quote.round_hash
    aux_data = made_at if any(made_at) else b""
    return quote.recipient + payer + numbers + quote.rand_hash + aux_data


def _require_signed(message: bytes, signature: bytes, payer: bytes, what: str) -> None:
    """Check a signature as the contract and the orchestrator do: length, low s, v, signer (§4.4)."""
    _require(len(signature) == SIGNATURE_BYTES, f"{what}: signature of {len(signature)} bytes")
    v, s = signature[64], int.from_bytes(signature[32:64])
    _require(v in {27, 28} and s <= HALF_OF_ORDER, f"{what}: v or s out of range")
    digest = keccak(b"\x19Ethereum Signed Message:\n%d" % len(message) + message)
    recoverable = signature[:64] + bytes([v - 27])
    key = PublicKey.from_signature_and_message(recoverable, digest, hasher=None)
    signer = keccak(key.format(compressed=False)[1:])[-20:]
    _require(signer == payer, f"{what}: signed by another")


def _check_credentials(credentials: Message, allowed: Allowed, payer: bytes) -> None:
    request, token = allowed.request, allowed.quote.auth_token
    manifest_id = credentials.data(1)
    asked = request.manifest_id.encode()
    _require(bool(manifest_id) and (not asked or manifest_id == asked), "segCreds: manifestId")
    _require(credentials.data(3) == EMPTY_HASH and credentials.data(4) == PROFILES, "segCreds: hash")
    _require(credentials.numbers <= CREDENTIAL_FIELDS, f"segCreds: fields {credentials.numbers}")
    flat = manifest_id + bytes(32) + EMPTY_HASH
    _require_signed(keccak(flat), credentials.data(5), payer, "segCreds")
    shown = credentials.message(8)
    _require(shown is not None and _token(shown) == _token(token), "segCreds: auth token")
    _require(_normal(credentials.message(7)) == _normal(allowed.capabilities), "segCreds: capabilities")


def _token(token: Message) -> tuple[bytes, bytes, int]:
    return token.data(1), token.data(2), token.integer(3)


def _normal(capabilities: Message | None) -> Any:
    """What capabilities say, however they are encoded; absent ones say what empty ones do."""
    if capabilities is None:
        capabilities = Message([])
    constraints = capabilities.message(5) or Message([])
    by_capability = {}
    for entry in constraints.messages(2):
        models = entry.message(2) or Message([])
        by_capability[entry.uint32(1)] = {
            model.data(1): _model(model.message(2) or Message([])) for model in models.messages(1)
        }
    return (
        capabilities.numbers_of(1),
        capabilities.numbers_of(2),
        {entry.uint32(1): entry.uint32(2) for entry in capabilities.messages(3)},
        capabilities.data(4),
        constraints.data(1),
        by_capability,
    )


def _model(constraint: Message) -> tuple[bool, int, bytes]:
    return bool(constraint.natural(1)), constraint.uint32(2), constraint.data(3)


def _answer(state: Any, allowed: Allowed, nonces: range) -> Answer:
    """Open the state: of what it says, only what the client's next request depends on is checked."""
    quote, request = allowed.quote, allowed.request
    _require(set(state) == {"State", "Sig"}, "state: keys")
    blob, sig = _decoded(state["State"]), _decoded(state["Sig"])
    fields = json.loads(blob)
    _require(fields["PMSessionID"] == "0x" + quote.rand_hash.hex(), "state: PMSessionID")
    _require(fields["OrchestratorAddress"] == "0x" + quote.orchestrator.hex(), "state: OrchestratorAddress")
    _require(fields["Type"] == request.job_type, "state: Type")
    _require(fields["SenderNonce"] == nonces[-1], "state: SenderNonce")
    price = Fraction(fields["InitialPricePerUnit"], fields["InitialPixelsPerUnit"])
    session = Session(quote.orchestrator, request.app, request.job_type, price)
    cost = Fraction(quote.face_value * quote.win_prob * len(nonces), CERTAIN)
    return Answer(quote.rand_hash, nonces, cost, (blob, sig), session, str(fields["StateID"]))


def _require(right: bool, problem: str) -> None:  # noqa: FBT001 (reads like assert, and survives -O)
    if not right:
        raise NotAsQuotedError(problem)
