"""Payments beside a stream, and transcoding segments as far as they are paid (§5.5, §14)."""

from contracts.livepeer import payments_pb2 as pb
from tilt.orchestrator.messages import price_of
from tilt.orchestrator.orchestrator import Orchestrator
from tilt.orchestrator.refusals import RefusedError
from tilt.orchestrator.signatures import keccak256

INT64_MASK = 2**64 - 1
EMPTY_DATA = b"\x1a\x00"  # field 3 of TranscodeResult, a TranscodeData without segments


class Segments:
    def __init__(self, orchestrator: Orchestrator) -> None:
        self._orchestrator = orchestrator

    async def pay(self, headers: tuple[str, str], origin: str) -> pb.PaymentResult:
        """Credit the manifest that the credentials name, whatever it is and whether or not it runs."""
        presented = self._orchestrator.read(*headers)
        info = await self._orchestrator.credit_and_quote(
            presented, manifest_id=presented.manifest_id, kind="payment", origin=origin
        )
        return pb.PaymentResult(info=info)

    async def transcode(self, headers: tuple[str, str], body: bytes, origin: str) -> bytes:
        """Credit the session of the auth token; return a TranscodeResult that holds no segment."""
        orchestrator = self._orchestrator
        presented = orchestrator.read(*headers)
        session_id = presented.auth_token.session_id
        info = await orchestrator.credit_and_quote(
            presented, manifest_id=session_id, kind="segment", origin=origin
        )
        account = orchestrator.ledger.open(presented.sender, session_id, "segment")
        if price_of(presented.payment) and account.balance < orchestrator.quotes.terms.ticket_ev:
            raise RefusedError(400, "Insufficient balance")
        if keccak256(body) != presented.segment.hash:
            raise RefusedError(403, "Forbidden")
        return _transcode_result(presented.segment.seq, info)


def _transcode_result(seq: int, info: pb.OrchestratorInfo) -> bytes:
    """Write the message by hand: `info` is field 16 there as in PaymentResult, `seq` is field 1."""
    head = b"\x08" + _varint(seq & INT64_MASK) if seq else b""
    return head + EMPTY_DATA + pb.PaymentResult(info=info).SerializeToString()


def _varint(number: int) -> bytes:
    groups = [number >> shift & 0x7F for shift in range(0, max(number.bit_length(), 1), 7)]
    return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])
