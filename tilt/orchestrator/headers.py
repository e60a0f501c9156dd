"""The two payment headers: what they decode to and whether their bearer may pay (§7.3 a, b).

Section numbers here and in the other modules are those of docs/protocol.md.
"""

import base64
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from contracts.livepeer import payments_pb2 as pb
from tilt.orchestrator.addresses import Address, address_of_bytes
from tilt.orchestrator.auth_tokens import AuthTokens
from tilt.orchestrator.capabilities import are_compatible
from tilt.orchestrator.refusals import RefusedError
from tilt.orchestrator.signatures import is_signed_by, keccak256
from tilt.orchestrator.tickets import WORD_BYTES, word

DURATION_MAX_MS = 300_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """What credentials are held against."""

    tokens: AuthTokens
    ours: pb.Capabilities
    now: float
    is_capped: bool  # no session more, whoever pays


@dataclass(frozen=True, slots=True)
class Presented:
    """A payment whose credentials are in order; its tickets are not looked at yet."""

    payment: pb.Payment
    sender: Address
    segment: pb.SegData

    @property
    def manifest_id(self) -> str:
        return _manifest_id(self.segment)

    @property
    def auth_token(self) -> pb.AuthToken:
        return self.segment.auth_token

    @property
    def capabilities(self) -> pb.Capabilities | None:
        """What the job asks for; None where nothing is said."""
        return self.segment.capabilities if self.segment.HasField("capabilities") else None


def read_headers(payment_header: str, segment_header: str, admission: Admission) -> Presented:
    payment = decode_payment(payment_header)
    sender = address_of_bytes(payment.sender)
    segment = decode_segment(segment_header)
    _check_segment(segment, sender, admission)
    return Presented(payment, sender, segment)


def manifest_id_of(segment_header: str) -> str:
    """Tell which manifest credentials name, whoever signed them; nothing, if they cannot be read."""
    try:
        return _manifest_id(decode_segment(segment_header))
    except RefusedError:
        return ""


def decode_payment(header: str) -> pb.Payment:
    """Read the payment; an empty header is an empty payment."""
    try:
        return pb.Payment.FromString(_decode_base64(header))
    except (ValueError, DecodeError) as error:
        raise RefusedError(402, str(error)) from error


def decode_segment(header: str) -> pb.SegData:
    try:
        raw = _decode_base64(header)
    except ValueError as error:
        raise RefusedError(403, "ErrorSegEncoding") from error
    try:
        return pb.SegData.FromString(raw)
    except DecodeError as error:
        raise RefusedError(403, str(error)) from error


def _manifest_id(segment: pb.SegData) -> str:
    return segment.manifest_id.decode(errors="replace")


def _decode_base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _check_segment(segment: pb.SegData, sender: Address, admission: Admission) -> None:
    if not 0 <= segment.duration <= DURATION_MAX_MS:
        raise RefusedError(403, "invalid duration")
    if not is_signed_by(sender, keccak256(flatten_segment(segment)), segment.sig):
        raise RefusedError(403, "ErrSegSig")
    if not are_compatible(segment.capabilities, admission.ours):
        raise RefusedError(403, "incompatible capabilities")
    if not segment.HasField("auth_token"):
        raise RefusedError(403, "missing auth token")
    if not admission.tokens.is_genuine(segment.auth_token):
        raise RefusedError(403, "invalid auth token")
    if segment.auth_token.expiration < admission.now:
        raise RefusedError(403, "expired auth token")
    if admission.is_capped:
        raise RefusedError(403, "OrchestratorCapped")


def flatten_segment(segment: pb.SegData) -> bytes:
    """Lay out the signed fields; profiles count as an empty string on live payments (§4.10)."""
    segment_hash = segment.hash[-WORD_BYTES:].rjust(WORD_BYTES, b"\0")
    return segment.manifest_id + word(abs(segment.seq)) + segment_hash
