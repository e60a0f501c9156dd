"""The two payment headers: what they decode to and whether their bearer may pay (§7.3 a, b).

Section numbers here and in the other modules are those of docs/protocol.md.
"""

import base64
from collections.abc import Iterable
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from contracts.livepeer import payments_pb2 as pb
from tilt.orchestrator.addresses import Address, address_of_bytes
from tilt.orchestrator.auth_tokens import AuthTokens
from tilt.orchestrator.refusals import RefusedError
from tilt.orchestrator.signatures import is_signed_by, keccak256
from tilt.orchestrator.tickets import WORD_BYTES, word

DURATION_MAX_MS = 300_000
# AuthToken, LiveVideoToVideo and BYOC: what live jobs may ask of this orchestrator.
CAPABILITIES = frozenset({12, 35, 37})


@dataclass(frozen=True, slots=True)
class Presented:
    """A payment whose credentials are in order; its tickets are not looked at yet."""

    payment: pb.Payment
    sender: Address
    manifest_id: str
    auth_token: pb.AuthToken


def read_headers(payment_header: str, segment_header: str, *, tokens: AuthTokens, now: float) -> Presented:
    payment = _decode_payment(payment_header)
    sender = address_of_bytes(payment.sender)
    segment = _decode_segment(segment_header)
    _check_segment(segment, sender, tokens, now)
    return Presented(
        payment=payment,
        sender=sender,
        manifest_id=segment.manifest_id.decode(errors="replace"),
        auth_token=segment.auth_token,
    )


def _decode_payment(header: str) -> pb.Payment:
    """Read the payment; an empty header is an empty payment."""
    try:
        return pb.Payment.FromString(_decode_base64(header))
    except (ValueError, DecodeError) as error:
        raise RefusedError(402, str(error)) from error


def _decode_segment(header: str) -> pb.SegData:
    try:
        raw = _decode_base64(header)
    except ValueError as error:
        raise RefusedError(403, "ErrorSegEncoding") from error
    try:
        return pb.SegData.FromString(raw)
    except DecodeError as error:
        raise RefusedError(403, str(error)) from error


def _decode_base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _check_segment(segment: pb.SegData, sender: Address, tokens: AuthTokens, now: float) -> None:
    if not 0 <= segment.duration <= DURATION_MAX_MS:
        raise RefusedError(403, "invalid duration")
    if not is_signed_by(sender, keccak256(flatten_segment(segment)), segment.sig):
        raise RefusedError(403, "ErrSegSig")
    if not _bits(segment.capabilities.bitstring) <= CAPABILITIES:
        raise RefusedError(403, "incompatible capabilities")
    if not segment.HasField("auth_token"):
        raise RefusedError(403, "missing auth token")
    if not tokens.is_genuine(segment.auth_token):
        raise RefusedError(403, "invalid auth token")
    if segment.auth_token.expiration < now:
        raise RefusedError(403, "expired auth token")


def flatten_segment(segment: pb.SegData) -> bytes:
    """Lay out the signed fields; profiles count as an empty string on live payments (§4.10)."""
    segment_hash = segment.hash[-WORD_BYTES:].rjust(WORD_BYTES, b"\0")
    return segment.manifest_id + word(abs(segment.seq)) + segment_hash


def _bits(words: Iterable[int]) -> set[int]:
    return {64 * index + bit for index, bits in enumerate(words) for bit in range(64) if bits >> bit & 1}
