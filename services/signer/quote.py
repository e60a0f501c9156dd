"""What an orchestrator quotes: an OrchestratorInfo, unsigned and sent by the client.

Lengths are exact, whole numbers positive and minimal; what is signed is encoded anew from here.
"""

from base64 import b64encode
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache

from google.protobuf.message import DecodeError

from contracts.livepeer.payments_pb2 import (
    AuthToken,
    OrchestratorInfo,
    PriceInfo,
    TicketExpirationParams,
    TicketParams,
)
from services.signer.refusal import BadRequestError

ADDRESS_BYTES = 20
HASH_BYTES = 32
TOKEN_MAX = 256
TEXT_MAX = 1024
CACHED_MAX = 4096  # bytes of a quote that is kept parsed; a longer one is read each time


@dataclass(frozen=True, eq=False)  # compared by identity: parse_quote keeps them by their bytes
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


def minimal(number: int) -> bytes:
    """Big-endian without leading zeros; zero is empty."""
    return number.to_bytes((number.bit_length() + 7) // 8)


def parse_quote(raw: bytes) -> Quote:
    """Read an OrchestratorInfo; the same bytes give the same object while it is kept."""
    return _kept_quote(raw) if len(raw) <= CACHED_MAX else _parse_quote(raw)


def _parse_quote(raw: bytes) -> Quote:
    """Read an OrchestratorInfo, in the order of protocol §1.4 (steps 3 to 6)."""
    if not raw:
        raise BadRequestError("missing orchestrator")
    try:
        info = OrchestratorInfo.FromString(raw)
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


_kept_quote = lru_cache(maxsize=4096)(_parse_quote)
