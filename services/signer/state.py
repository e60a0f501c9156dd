"""The state a client carries from payment to payment (protocol §2).

It is a reference to a payment session of ours, with the sequence number of the reply it came in.
The layout is go-livepeer's; the signature is a MAC under a key of our own, bound to the account.
"""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from hashlib import blake2b
from hmac import compare_digest

from pydantic_core import from_json, to_json

from services.signer.refusal import BadRequestError

# Go's encoder escapes these, and two separators that no printable `app` has.
GO_ESCAPES = {"<": b"\\u003c", ">": b"\\u003e", "&": b"\\u0026"}


@dataclass(frozen=True, slots=True)
class State:
    """What go-livepeer keeps in the client; of ours only id and sequence count."""

    state_id: str
    pm_session_id: str  # 0x and the recipient rand hash
    last_update: str  # RFC 3339 (`go_time`)
    orchestrator_address: str  # 0x and 40 lower-case hex digits
    app: str
    sender_nonce: int
    balance: Fraction
    initial_price_per_unit: int
    initial_pixels_per_unit: int
    job_type: str
    sequence: int


@dataclass(frozen=True, slots=True)
class Reference:
    state_id: str
    sequence: int
    last_at: datetime | None = None  # when that state was made, if we made it


def encode(state: State) -> bytes:
    """Go's field order, no white space, RFC 3339 with trailing zeros cut, and Go's escapes."""
    document = {
        "StateID": state.state_id,
        "PMSessionID": state.pm_session_id,
        "LastUpdate": state.last_update,
        "OrchestratorAddress": state.orchestrator_address,
        "App": state.app,
        "AuthExpiry": 0,
        "SenderNonce": state.sender_nonce,
        "Balance": str(state.balance),
        "InitialPricePerUnit": state.initial_price_per_unit,
        "InitialPixelsPerUnit": state.initial_pixels_per_unit,
        "Type": state.job_type,
        "SequenceNumber": state.sequence,
        "AuthID": "",
    }
    encoded = to_json(document)
    if not GO_ESCAPES.keys().isdisjoint(state.app):
        for character, escape in GO_ESCAPES.items():
            encoded = encoded.replace(character.encode(), escape)
    return encoded


def go_time(moment: datetime) -> str:
    """RFC 3339 as Go writes it: trailing zeros of the fraction are cut."""
    text = moment.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00")
    return text.rstrip("0").rstrip(".") + "Z"


class StateSeal:
    """Seals states with the first key; opens those sealed with any, so that keys can rotate."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = tuple(keys)

    def seal(self, account_id: str, state: bytes) -> bytes:
        return _mac(self._keys[0], account_id, state)

    def wire(self, account_id: str, state: bytes) -> str:
        """The JSON object the client sends back."""
        sealed = b64encode(self.seal(account_id, state)).decode()
        return f'{{"State":"{b64encode(state).decode()}","Sig":"{sealed}"}}'

    def sealed(self, account_id: str, state: bytes, sealed: bytes) -> bool:
        """Tell whether we sealed this very state for this account."""
        return any(compare_digest(_mac(key, account_id, state), sealed) for key in self._keys)

    def open(self, account_id: str, state: bytes, sealed: bytes) -> Reference:
        """Raise BadRequestError unless we sealed this very state for this account."""
        if not self.sealed(account_id, state, sealed):
            raise BadRequestError("invalid sig")
        try:
            fields = from_json(state)
            last_at = datetime.fromisoformat(fields["LastUpdate"])
            return Reference(str(fields["StateID"]), int(fields["SequenceNumber"]), last_at)
        except (ValueError, KeyError, TypeError) as problem:
            raise BadRequestError("invalid state") from problem

    def derive_id(self, *parts: str) -> str:
        """A state id (uuid4 hex) that the same parts give again and nobody else can guess."""
        digest = bytearray(_mac(self._keys[0], "", "\0".join(parts).encode()))
        digest[6] = digest[6] & 0x0F | 0x40
        digest[8] = digest[8] & 0x3F | 0x80
        return digest[:16].hex()


def _mac(key: bytes, account_id: str, message: bytes) -> bytes:
    """Keyed BLAKE2b (RFC 7693), half the cost of HMAC-SHA256."""
    return blake2b(account_id.encode() + b"\0" + message, key=key, digest_size=32).digest()
