"""Reads the JSON that clients send. Nothing in it is trusted; every refusal names the field."""

import json
import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any

from google.protobuf.message import DecodeError
from pydantic_core import from_json

from contracts.livepeer.payments_pb2 import Capabilities

TEXT_MAX = 1024  # ManifestID, app, URL
EXPONENT_MAX = 60  # of maxPrice: 10**60 wei is more than there is
DIGITS_MAX = 80
JSON_DEPTH_MAX = 20
JSON_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,4})?")
APP_BYTES_MAX = 256
CACHED_MAX = 4096  # characters of what is kept parsed; longer texts are read each time


class BadRequestError(Exception):
    """The request cannot be read; the message names the field. Answered with 400."""


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


def parse_body(text: str) -> PaymentBody:
    """Read the JSON body; keys match whatever their case, null is as good as absent."""
    try:
        raw = from_json(text, allow_inf_nan=False)
    except ValueError as problem:
        raise BadRequestError(f"body is not JSON: {problem}") from problem
    if not isinstance(raw, dict):
        raise BadRequestError("body must be a JSON object")
    _check_depth(raw, text)
    fields = _present(raw)
    state = _object(fields, "state")
    return PaymentBody(
        orchestrator=_text(fields, "orchestrator", 65_536),
        state=_bytes(state, "state", "state.State"),
        state_sig=_bytes(state, "sig", "state.Sig"),
        manifest_id=_text(fields, "manifestid", TEXT_MAX, name="ManifestID"),
        app=_app(fields),
        in_pixels=_whole(fields, "inpixels", name="inPixels"),
        job_type=_text(fields, "type", TEXT_MAX),
        max_price=_max_price(_object(fields, "maxprice", name="maxPrice"), text),
        capabilities=_capabilities(_text(fields, "capabilities", 65_536)),
    )


def _object(fields: Mapping[str, Any], key: str, name: str = "") -> dict[str, Any]:
    value = fields.get(key, {})
    if not isinstance(value, dict):
        raise BadRequestError(f"{name or key} must be an object")
    return _present(value)


def _present(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Keys as Go matches them, whatever their case; null is as good as absent."""
    return {key.lower(): value for key, value in raw.items() if value is not None}


def _check_depth(raw: Any, text: str) -> None:
    if text.count("{") + text.count("[") <= JSON_DEPTH_MAX:
        return  # it cannot be deeper than that
    level = [raw]
    for _ in range(JSON_DEPTH_MAX):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    if level:
        raise BadRequestError(f"body is nested deeper than {JSON_DEPTH_MAX}")


def _app(fields: Mapping[str, Any]) -> str:
    """It is booked with every payment, so it must be what every reader of the log can keep."""
    app = _text(fields, "app", APP_BYTES_MAX)
    if len(app.encode()) > APP_BYTES_MAX or not app.isprintable():
        raise BadRequestError(f"app must be printable and at most {APP_BYTES_MAX} bytes")
    return app


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
    written = _present(json.loads(body, parse_float=str))
    return str(_present(written["maxprice"])["price"])


def exact_decimal(literal: str) -> Fraction:
    """A decimal, exactly; exponent and digits bounded, or it could cost minutes to expand."""
    if not JSON_NUMBER.fullmatch(literal):
        raise BadRequestError("maxPrice.price must be a positive decimal")
    number = Decimal(literal)
    _, digits, exponent = number.as_tuple()
    bounded = isinstance(exponent, int) and abs(exponent) <= EXPONENT_MAX and len(digits) <= DIGITS_MAX
    if not bounded or number <= 0:
        raise BadRequestError("maxPrice.price must be a positive decimal")
    return Fraction(number)


def _capabilities(text: str) -> bytes | None:
    if not text:
        return None
    return _kept_capabilities(text) if len(text) <= CACHED_MAX else _parse_capabilities(text)


def _parse_capabilities(text: str) -> bytes:
    raw = decode_base64(text, "capabilities")
    try:
        return Capabilities.FromString(raw).SerializeToString(deterministic=True)
    except DecodeError as problem:
        raise BadRequestError(f"capabilities: {problem}") from problem


_kept_capabilities = lru_cache(maxsize=1024)(_parse_capabilities)
