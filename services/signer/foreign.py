"""States of a go-livepeer signer that had the payer's key before us (protocol §2, design §4.2).

Taken over only if a setting says so, each once, by the first account that shows it.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

from coincurve import PublicKey
from pydantic_core import from_json

from services.signer.refusal import BadRequestError
from services.signer.tickets import personal_digest
from shared.keccak import keccak

SIGNATURE_BYTES = 65
HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0  # half of secp256k1's
RECOVERY_IDS = (27, 28)
RATIONAL = re.compile(r"-?[0-9]{1,400}(/[1-9][0-9]{0,399})?")
STATE_ID_MAX = 64
NEVER = 1  # the year of Go's zero time


@dataclass(frozen=True, slots=True)
class ForeignState:
    """What counts of a foreign state."""

    state_id: str
    rand_hash_hex: str  # of the params its last tickets were signed under
    orchestrator: str  # 0x and 40 lower-case digits
    app: str
    job_type: str
    price_per_unit: int
    pixels_per_unit: int
    balance: Fraction  # wei
    last_update: datetime | None  # None: it was never paid
    sequence: int


def read_foreign(state: bytes, signature: bytes, payer: str) -> ForeignState:
    """Raise BadRequestError `invalid sig` or `invalid state`, in go-livepeer's words."""
    if recover(personal_digest(state), signature) != payer:
        raise BadRequestError("invalid sig")
    return read_state(state)


def read_state(state: bytes) -> ForeignState:
    """What a state says, ours or foreign, if it is known to be authentic; else raise BadRequestError."""
    try:
        return _foreign(from_json(state))
    except (ValueError, KeyError, TypeError, ZeroDivisionError, OverflowError) as problem:
        raise BadRequestError("invalid state") from problem


def recover(digest: bytes, signature: bytes) -> str | None:
    """The address whose key signed, or None; strict as go-livepeer's VerifySig (protocol §4.4)."""
    if len(signature) != SIGNATURE_BYTES or signature[64] not in RECOVERY_IDS:
        return None
    if int.from_bytes(signature[32:64]) > HALF_ORDER:
        return None
    compact = signature[:64] + bytes([signature[64] - 27])
    try:
        public = PublicKey.from_signature_and_message(compact, digest, hasher=None)
    except ValueError:
        return None
    return "0x" + keccak(public.format(compressed=False)[1:])[-20:].hex()


def _foreign(fields: dict[str, Any]) -> ForeignState:
    price, pixels = int(fields["InitialPricePerUnit"]), int(fields["InitialPixelsPerUnit"])
    state_id, sequence = str(fields["StateID"]), int(fields["SequenceNumber"])
    if not state_id or len(state_id) > STATE_ID_MAX or sequence < 0:
        raise ValueError("no id or sequence")
    if price <= 0 or pixels <= 0:
        raise BadRequestError("invalid initial price in state")
    return ForeignState(
        state_id=state_id,
        rand_hash_hex=str(fields["PMSessionID"]).lower().removeprefix("0x"),
        orchestrator=str(fields["OrchestratorAddress"]).lower(),
        app=str(fields["App"]),
        job_type=str(fields["Type"]),
        price_per_unit=price,
        pixels_per_unit=pixels,
        balance=_balance(str(fields["Balance"])),
        last_update=_time(str(fields["LastUpdate"])),
        sequence=sequence,
    )


def _balance(text: str) -> Fraction:
    """A rational as Go writes it; what is none counts as zero, as there."""
    return Fraction(text) if RATIONAL.fullmatch(text) else Fraction(0)


def _time(text: str) -> datetime | None:
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC) if moment.year > NEVER else None
