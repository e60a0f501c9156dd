"""Between protobuf messages and tickets: integers are minimal bytes on the wire (§3)."""

from fractions import Fraction

from contracts.livepeer import payments_pb2 as pb
from tilt.orchestrator.addresses import address_of_bytes
from tilt.orchestrator.refusals import RefusedError
from tilt.orchestrator.tickets import WORD_BYTES, TicketParams, Wei, minimal_bytes


def encode_params(params: TicketParams) -> pb.TicketParams:
    return pb.TicketParams(
        recipient=params.recipient,
        face_value=minimal_bytes(params.face_value),
        win_prob=minimal_bytes(params.win_prob),
        recipient_rand_hash=params.recipient_rand_hash,
        seed=minimal_bytes(params.seed),
        expiration_block=minimal_bytes(params.expiration_block),
        expiration_params=pb.TicketExpirationParams(
            creation_round=params.creation_round,
            creation_round_block_hash=params.creation_round_block_hash,
        ),
    )


def decode_params(payment: pb.Payment) -> TicketParams:
    """Read a payment's params; its expiration params travel beside them, not inside."""
    if not payment.HasField("expiration_params"):
        raise RefusedError(400, "missing or invalid expiration params")
    return decode_quoted_params(payment.ticket_params, payment.expiration_params)


def decode_quoted_params(params: pb.TicketParams, expiration: pb.TicketExpirationParams) -> TicketParams:
    if expiration.creation_round < 0:
        raise RefusedError(400, "missing or invalid expiration params")
    numbers = (params.face_value, params.win_prob, params.seed, params.expiration_block)
    if any(len(number) > WORD_BYTES for number in numbers):
        raise RefusedError(400, "ticket params exceed 32 bytes")
    return TicketParams(
        recipient=address_of_bytes(params.recipient),
        face_value=Wei(int.from_bytes(params.face_value)),
        win_prob=int.from_bytes(params.win_prob),
        recipient_rand_hash=_hash_of_bytes(params.recipient_rand_hash),
        seed=int.from_bytes(params.seed),
        expiration_block=int.from_bytes(params.expiration_block),
        creation_round=expiration.creation_round,
        creation_round_block_hash=_hash_of_bytes(expiration.creation_round_block_hash),
    )


def decode_price(payment: pb.Payment) -> Fraction:
    price = payment.expected_price
    if not payment.HasField("expected_price") or price.pixels_per_unit <= 0:
        raise RefusedError(400, "invalid expected price sent with payment")
    if price.price_per_unit < 0:
        raise RefusedError(400, "invalid expected price sent with payment")
    return Fraction(price.price_per_unit, price.pixels_per_unit)


def price_of(payment: pb.Payment) -> Fraction:
    """What a unit costs a payer; nothing, if the payment names no price."""
    price = payment.expected_price
    return Fraction(price.price_per_unit, price.pixels_per_unit or 1)


def _hash_of_bytes(raw: bytes) -> bytes:
    return raw[-WORD_BYTES:].rjust(WORD_BYTES, b"\0")
