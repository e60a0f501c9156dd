"""What an OrchestratorInfo says, by the wire alone: each field inside its bounds, or `Forbidden`."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Self

from tests.fuzz.wire_format import PACKED, Message, Schema

CERTAIN = 2**256 - 1
ADDRESS_BYTES, HASH_BYTES, INTEGER_BYTES_MAX = 20, 32, 32
NO_PARTS: Schema = {}
MAP_OF_NUMBERS: Schema = {}
MODELS: Schema = {2: {}}  # by name
CAPABILITIES: Schema = {
    1: PACKED,
    2: PACKED,
    3: MAP_OF_NUMBERS,
    5: {2: {2: {1: MODELS}}},
}
ORCHESTRATOR_INFO: Schema = {
    2: {7: NO_PARTS},
    3: NO_PARTS,
    5: CAPABILITIES,
    6: NO_PARTS,
    7: {3: {2: NO_PARTS}},
    32: {16: NO_PARTS},
    33: NO_PARTS,
}


class Forbidden(Exception):  # noqa: N818 (a verdict, not an error)
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Quote:
    """What an OrchestratorInfo says, each field inside its bounds."""

    info: Message
    orchestrator: bytes
    recipient: bytes
    face_value: int
    win_prob: int
    rand_hash: bytes
    seed: int
    expiration_block: int
    round: int
    round_hash: bytes
    price: Fraction

    @property
    def ev(self) -> Fraction:
        return Fraction(self.face_value * self.win_prob, CERTAIN)

    @property
    def price_info(self) -> Message:
        return _part(self.info, 3, "missing or zero priceInfo")

    @property
    def auth_token(self) -> Message:
        return _part(self.info, 6, "missing auth token")

    @classmethod
    def of(cls, info: Message) -> Self:
        params = _part(info, 2, "missing ticketParams")
        made_at = _part(params, 7, "missing expirationParams")
        expiration_block = _integer(params.data(6))
        if expiration_block == 0:
            raise Forbidden("expiration block is 0")
        return cls(
            info=info,
            orchestrator=_exactly(info.data(4), ADDRESS_BYTES),
            recipient=_exactly(params.data(1), ADDRESS_BYTES),
            face_value=_positive(params.data(2)),
            win_prob=_positive(params.data(3)),
            rand_hash=_exactly(params.data(4), HASH_BYTES),
            seed=_integer(params.data(5)),
            expiration_block=expiration_block,
            round=made_at.integer(1),
            round_hash=_exactly(made_at.data(2), HASH_BYTES),
            price=_price(_part(info, 3, "missing or zero priceInfo")),
        )


def _part(message: Message, number: int, problem: str) -> Message:
    part = message.message(number)
    if part is None:
        raise Forbidden(problem)
    return part


def _price(price_info: Message) -> Fraction:
    per_unit, pixels = price_info.integer(1), price_info.integer(2)
    if per_unit <= 0 or pixels <= 0:
        raise Forbidden("missing or zero priceInfo")
    return Fraction(per_unit, pixels)


def _exactly(value: bytes, length: int) -> bytes:
    if len(value) != length:
        raise Forbidden(f"not {length} bytes")
    return value


def _integer(value: bytes) -> int:
    if len(value) > INTEGER_BYTES_MAX or value[:1] == b"\0":
        raise Forbidden("integer not minimal, or over 32 bytes")
    return int.from_bytes(value)


def _positive(value: bytes) -> int:
    number = _integer(value)
    if number == 0:
        raise Forbidden("integer not positive")
    return number
