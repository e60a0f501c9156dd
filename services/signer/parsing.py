"""Reads the body of a payment request. Nothing in it is trusted; every refusal names the field."""

import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from contracts.livepeer.payments_pb2 import Capabilities, CapabilityConstraints, Constraints
from services.signer.go_json import Fields, Members, read_object
from services.signer.refusal import BadRequestError

TEXT_MAX = 1024  # characters of type, currency, unit, URL
APP_BYTES_MAX = 256
# What is signed over a ManifestID is 64 bytes longer: it must never be as long as a ticket, 168 bytes.
MANIFEST_BYTES_MAX = 100
EXPONENT_MAX = 60  # of maxPrice: 10**60 wei is more than there is
EXPONENT_DIGITS_MAX = 6
DIGITS_MAX = 80
CACHED_MAX = 1024  # bytes of capabilities that are kept parsed
JSON_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
NOTHING = Fields(Members())


@dataclass(frozen=True, slots=True)
class MaxPrice:
    """As the client wrote it; whether it makes sense is asked later (step 13)."""

    price: str  # a JSON number, or empty
    currency: str
    unit: str


@dataclass(frozen=True, slots=True)
class PaymentBody:
    """A parsed request to /generate-live-payment (protocol §1.2, step 2 of §1.4)."""

    orchestrator: bytes  # protobuf OrchestratorInfo
    state: bytes
    state_sig: bytes
    manifest_id: str
    app: str
    in_pixels: int
    job_type: str
    max_price: MaxPrice | None
    capabilities: bytes  # protobuf Capabilities; empty is none

    @property
    def has_state(self) -> bool:
        return bool(self.state or self.state_sig)


def parse_body(text: str) -> PaymentBody:
    """Read the JSON body. Raises BadRequestError."""
    fields = read_object(text)
    state = fields.object("state") or NOTHING
    return PaymentBody(
        orchestrator=fields.octets("orchestrator"),
        state=state.octets("State"),
        state_sig=state.octets("Sig"),
        manifest_id=_manifest_id(fields),
        app=_app(fields),
        in_pixels=fields.int64("inPixels"),
        job_type=fields.text("type", TEXT_MAX),
        max_price=_last_max_price(fields),
        capabilities=fields.octets("capabilities"),
    )


def _manifest_id(fields: Fields) -> str:
    manifest_id = fields.text("ManifestID", MANIFEST_BYTES_MAX)
    if len(manifest_id.encode()) > MANIFEST_BYTES_MAX:
        raise BadRequestError(f"ManifestID is longer than {MANIFEST_BYTES_MAX} bytes")
    return manifest_id


def _app(fields: Fields) -> str:
    """It is booked with every payment, so it must be what every reader of the log can keep."""
    app = fields.text("app", APP_BYTES_MAX)
    if len(app.encode()) > APP_BYTES_MAX or not app.isprintable():
        raise BadRequestError(f"app must be printable and at most {APP_BYTES_MAX} bytes")
    return app


def _last_max_price(fields: Fields) -> MaxPrice | None:
    """Also what a null takes back has to fit."""
    held = [_max_price(each) if each is not None else None for each in fields.pointers("maxPrice")]
    return held[-1] if held else None


def _max_price(fields: Fields) -> MaxPrice:
    for price in fields.values("price"):
        if isinstance(price, str) and not JSON_NUMBER.fullmatch(price):
            raise BadRequestError("maxPrice.price is not a number")
    return MaxPrice(
        price=fields.number("price"),
        currency=fields.text("currency", TEXT_MAX).strip().lower(),
        unit=fields.text("unit", TEXT_MAX).strip().lower(),
    )


def positive_decimal(number: str) -> Fraction | None:
    """A JSON number exactly; None unless it is positive.

    Exponent and digits are bounded, or it could cost minutes to expand.
    """
    mantissa, _, exponent = number.lower().partition("e")
    if len(mantissa) > DIGITS_MAX or len(exponent) > EXPONENT_DIGITS_MAX:
        return None
    value = Decimal(number) if number else Decimal(0)
    return Fraction(value) if value > 0 and abs(int(exponent or 0)) <= EXPONENT_MAX else None


def read_capabilities(raw: bytes) -> Capabilities | None:
    """Step 9; None if none are asked for. Raises BadRequestError."""
    if not raw:
        return None
    return _kept_capabilities(raw) if len(raw) <= CACHED_MAX else _parse_capabilities(raw)


def _parse_capabilities(raw: bytes) -> Capabilities:
    try:
        capabilities = Capabilities.FromString(raw)
    except DecodeError as problem:
        raise BadRequestError(f"capabilities: {problem}") from problem
    _check_entries(capabilities)
    return capabilities


def _check_entries(capabilities: Capabilities) -> None:
    """Refuse entries of maps with fields of their own: Go reads these, our library puts them aside.

    They could ask an orchestrator for a model whose price ceiling is not looked up here.
    """
    constraints = capabilities.constraints
    maps: list[tuple[Message, int]] = [
        (capabilities, Capabilities.CAPACITIES_FIELD_NUMBER),
        (constraints, Constraints.PER_CAPABILITY_FIELD_NUMBER),
    ]
    maps += [
        (models, CapabilityConstraints.MODELS_FIELD_NUMBER) for models in constraints.per_capability.values()
    ]
    for message, number in maps:
        unknown = UnknownFieldSet(message)
        if any(unknown[place].field_number == number for place in range(len(unknown))):
            raise BadRequestError("capabilities: an entry has unknown fields")


_kept_capabilities = lru_cache(maxsize=1024)(_parse_capabilities)
