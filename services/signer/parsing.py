"""Reads what clients send. Nothing in it is trusted: OrchestratorInfo is unsigned.

Lengths are exact, whole numbers positive and minimal; what is signed later is encoded anew from
the values parsed here. Every refusal names the field.
"""

import json
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Any

from google.protobuf.message import DecodeError
from pydantic_core import from_json

from contracts.livepeer.payments_pb2 import (
    AuthToken,
    Capabilities,
    OrchestratorInfo,
    PriceInfo,
    TicketExpirationParams,
    TicketParams,
)

ADDRESS_BYTES = 20
HASH_BYTES = 32
TEXT_MAX = 1024  # ManifestID, app, URL
TOKEN_MAX = 256
EXPONENT_MAX = 60  # of maxPrice: 10**60 wei is more than there is
DIGITS_MAX = 80
JSON_DEPTH_MAX = 20


class BadRequestError(Exception):
    """The request cannot be read; the message names the field. Answered with 400."""


@dataclass(frozen=True, eq=False)  # compared by identity: parse_quote keeps them by their text
class Quote:
    """An orchestrator's quote: price and ticket params, every field inside its bounds."""

    orchestrator_url: str
    orchestrator: bytes
    price_per_unit: int
    pixels_per_unit: int
    price_capability: int
    price_constraint: str
    recipient: bytes
    face_value: int
    win_prob: int
    recipient_rand_hash: bytes
    seed: int
    expiration_block: int
    creation_round: int
    creation_round_hash: bytes
    auth_token: bytes | None  # as protobuf, passed on verbatim
    auth_expiration: int

    @cached_property
    def price(self) -> Fraction:
        return Fraction(self.price_per_unit, self.pixels_per_unit)

    @cached_property
    def rand_hash_hex(self) -> str:
        return self.recipient_rand_hash.hex()

    @cached_property
    def params_text(self) -> str:
        """All that is signed of the params, re-encoded: base64 of the protobuf TicketParams."""
        params = self.ticket_params_message()
        params.expiration_params.CopyFrom(self.expiration_params_message())
        return b64encode(params.SerializeToString(deterministic=True)).decode()

    def ticket_params_message(self) -> TicketParams:
        return TicketParams(
            recipient=self.recipient,
            face_value=minimal(self.face_value),
            win_prob=minimal(self.win_prob),
            recipient_rand_hash=self.recipient_rand_hash,
            seed=minimal(self.seed),
            expiration_block=minimal(self.expiration_block),
        )

    def expiration_params_message(self) -> TicketExpirationParams:
        return TicketExpirationParams(
            creation_round=self.creation_round,
            creation_round_block_hash=self.creation_round_hash,
        )

    def price_info_message(self) -> PriceInfo:
        return PriceInfo(
            price_per_unit=self.price_per_unit,
            pixels_per_unit=self.pixels_per_unit,
            capability=self.price_capability,
            constraint=self.price_constraint,
        )


@dataclass(frozen=True, slots=True)
class MaxPrice:
    price: Fraction
    currency: str
    unit: str


@dataclass(frozen=True, slots=True)
class PaymentBody:
    """A parsed request to /generate-live-payment (protocol §1.2)."""

    orchestrator: str
    state: bytes
    state_sig: bytes
    manifest_id: str
    app: str
    in_pixels: int
    job_type: str
    max_price: MaxPrice | None
    capabilities: bytes | None

    @property
    def has_state(self) -> bool:
        return bool(self.state or self.state_sig)


def minimal(number: int) -> bytes:
    """Big-endian without leading zeros; zero is empty."""
    return number.to_bytes((number.bit_length() + 7) // 8)


def parse_body(text: str) -> PaymentBody:
    """Read the JSON body; keys match whatever their case, null is as good as absent."""
    try:
        raw = from_json(text, allow_inf_nan=False)
    except ValueError as problem:
        raise BadRequestError(f"body is not JSON: {problem}") from problem
    if not isinstance(raw, dict):
        raise BadRequestError("body must be a JSON object")
    fields = {key.lower(): value for key, value in raw.items() if value is not None}
    state = _object(fields, "state")
    return PaymentBody(
        orchestrator=_text(fields, "orchestrator", 65_536),
        state=_bytes(state, "state", "state.State"),
        state_sig=_bytes(state, "sig", "state.Sig"),
        manifest_id=_text(fields, "manifestid", TEXT_MAX, name="ManifestID"),
        app=_text(fields, "app", TEXT_MAX),
        in_pixels=_whole(fields, "inpixels", name="inPixels"),
        job_type=_text(fields, "type", TEXT_MAX),
        max_price=_max_price(_object(fields, "maxprice", name="maxPrice"), text),
        capabilities=_capabilities(_text(fields, "capabilities", 65_536)),
    )


def _object(fields: Mapping[str, Any], key: str, name: str = "") -> dict[str, Any]:
    value = fields.get(key, {})
    if not isinstance(value, dict):
        raise BadRequestError(f"{name or key} must be an object")
    return {inner.lower(): entry for inner, entry in value.items() if entry is not None}


def _text(fields: Mapping[str, Any], key: str, longest: int, name: str = "") -> str:
    value = fields.get(key, "")
    if not isinstance(value, str):
        raise BadRequestError(f"{name or key} must be a string")
    if len(value) > longest:
        raise BadRequestError(f"{name or key} is longer than {longest} characters")
    return value


def _whole(fields: Mapping[str, Any], key: str, name: str) -> int:
    value = fields.get(key, 0)
    if not isinstance(value, int) or isinstance(value, bool) or not -(2**63) <= value < 2**63:
        raise BadRequestError(f"{name} must be a whole number of 64 bits")
    return value


def _bytes(fields: Mapping[str, Any], key: str, name: str) -> bytes:
    value = fields.get(key, "")
    if not isinstance(value, str):
        raise BadRequestError(f"{name} must be a base64 string")
    return decode_base64(value, name)


def decode_base64(text: str, name: str) -> bytes:
    """Standard padded base64; line breaks inside are tolerated, as Go does."""
    try:
        return b64decode(text.replace("\n", "").replace("\r", ""), validate=True)
    except (Base64Error, ValueError) as problem:
        raise BadRequestError(f"{name} is not base64: {problem}") from problem


def _max_price(fields: Mapping[str, Any], body: str) -> MaxPrice | None:
    if not fields:
        return None
    price = fields.get("price", "")
    if isinstance(price, bool) or not isinstance(price, (int, float, str)):
        raise BadRequestError("maxPrice.price must be a positive decimal")
    literal = _literal(price, body)
    return MaxPrice(
        price=exact_decimal(literal),
        currency=_text(fields, "currency", TEXT_MAX, name="maxPrice.currency").strip().lower(),
        unit=_text(fields, "unit", TEXT_MAX, name="maxPrice.unit").strip().lower(),
    )


def _literal(price: float | str, body: str) -> str:
    """The number as the client wrote it: a float has lost digits, so the text is read again."""
    if not isinstance(price, float):
        return str(price)
    fields = {key.lower(): value for key, value in json.loads(body, parse_float=str).items()}
    prices = {key.lower(): value for key, value in fields["maxprice"].items()}
    return str(prices["price"])


def exact_decimal(literal: str) -> Fraction:
    """A decimal, exactly; exponent and digits bounded, or it could cost minutes to expand."""
    try:
        number = Decimal(literal)
    except ArithmeticError as problem:
        raise BadRequestError("maxPrice.price must be a positive decimal") from problem
    _, digits, exponent = number.as_tuple()
    bounded = isinstance(exponent, int) and abs(exponent) <= EXPONENT_MAX and len(digits) <= DIGITS_MAX
    if not bounded or number <= 0:
        raise BadRequestError("maxPrice.price must be a positive decimal")
    return Fraction(number)


@lru_cache(maxsize=1024)
def _capabilities(text: str) -> bytes | None:
    if not text:
        return None
    raw = decode_base64(text, "capabilities")
    try:
        return Capabilities.FromString(raw).SerializeToString(deterministic=True)
    except DecodeError as problem:
        raise BadRequestError(f"capabilities: {problem}") from problem


@lru_cache(maxsize=4096)
def parse_quote(text: str) -> Quote:
    """Read an OrchestratorInfo, in the order of protocol §1.4 (steps 3 to 6)."""
    if not text:
        raise BadRequestError("missing orchestrator")
    try:
        info = OrchestratorInfo.FromString(decode_base64(text, "orchestrator"))
    except DecodeError as problem:
        raise BadRequestError(f"orchestrator: {problem}") from problem
    price = info.price_info
    if not info.HasField("price_info") or not price.price_per_unit or not price.pixels_per_unit:
        raise BadRequestError("missing or zero priceInfo")
    if price.price_per_unit < 0 or price.pixels_per_unit < 0:
        raise BadRequestError("negative priceInfo")
    if not info.HasField("ticket_params"):
        raise BadRequestError("missing ticketParams in OrchestratorInfo")
    return _quote(info)


def _quote(info: OrchestratorInfo) -> Quote:
    params = info.ticket_params
    if len(info.transcoder) > TEXT_MAX or len(info.price_info.constraint) > TEXT_MAX:
        raise BadRequestError(f"transcoder or constraint is longer than {TEXT_MAX} characters")
    expiration = params.expiration_params
    if not params.HasField("expiration_params") or expiration.creation_round <= 0:
        raise BadRequestError("ticketParams expirationParams are missing")
    token = _auth_token(info)
    return Quote(
        orchestrator_url=info.transcoder,
        orchestrator=_exactly(info.address, ADDRESS_BYTES, "address"),
        price_per_unit=info.price_info.price_per_unit,
        pixels_per_unit=info.price_info.pixels_per_unit,
        price_capability=info.price_info.capability,
        price_constraint=info.price_info.constraint,
        recipient=_exactly(params.recipient, ADDRESS_BYTES, "ticketParams recipient"),
        face_value=_positive(params.face_value, "ticketParams faceValue"),
        win_prob=_positive(params.win_prob, "ticketParams winProb"),
        recipient_rand_hash=_exactly(
            params.recipient_rand_hash, HASH_BYTES, "ticketParams recipientRandHash"
        ),
        seed=_number(params.seed, "ticketParams seed"),
        expiration_block=_number(params.expiration_block, "ticketParams expirationBlock"),
        creation_round=expiration.creation_round,
        creation_round_hash=_exactly(
            expiration.creation_round_block_hash, HASH_BYTES, "ticketParams creationRoundBlockHash"
        ),
        auth_token=token.SerializeToString(deterministic=True) if token is not None else None,
        auth_expiration=token.expiration if token is not None else 0,
    )


def _auth_token(info: OrchestratorInfo) -> AuthToken | None:
    if not info.HasField("auth_token"):
        return None
    token = info.auth_token
    if len(token.token) > TOKEN_MAX or len(token.session_id) > TOKEN_MAX:
        raise BadRequestError(f"authToken is longer than {TOKEN_MAX} bytes")
    return token


def _exactly(value: bytes, length: int, name: str) -> bytes:
    if len(value) != length:
        raise BadRequestError(f"{name} must have {length} bytes, not {len(value)}")
    return value


def _number(value: bytes, name: str) -> int:
    """A minimal big-endian number of at most 32 bytes; empty is zero."""
    if len(value) > HASH_BYTES:
        raise BadRequestError(f"{name} is longer than {HASH_BYTES} bytes")
    if value[:1] == b"\0":
        raise BadRequestError(f"{name} has leading zeros")
    return int.from_bytes(value)


def _positive(value: bytes, name: str) -> int:
    number = _number(value, name)
    if not number:
        raise BadRequestError(f"{name} must be positive")
    return number
