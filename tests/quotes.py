"""Makes what orchestrators quote and what clients send, for tests and benchmarks.

Written apart from the signer: an orchestrator's params need not be redeemable here, only well formed.
"""

import json
import secrets
from base64 import b64encode
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any

from contracts.livepeer.payments_pb2 import OrchestratorInfo
from services.signer.rules import ChainView
from shared.money import CERTAIN, Wei

ROUND, ROUND_HASH, PREVIOUS_HASH = 3210, sha256(b"round").digest(), sha256(b"previous").digest()
L1_BLOCK = 19_000_000


def chain_view(now: datetime, **changes: Any) -> ChainView:
    values: dict[str, Any] = {
        "l1_block": L1_BLOCK,
        "round": ROUND,
        "round_hash": ROUND_HASH,
        "previous_round_hash": PREVIOUS_HASH,
        "deposit": Wei(10**18),
        "reserve": Wei(10**18),
        "withdraw_round": 0,
        "observed_at": now,
    }
    return ChainView(**{**values, **changes})


@dataclass
class QuoteMaker:
    """An orchestrator's quote; each field can be set, also to nonsense."""

    now: datetime
    price_per_unit: int = 10
    pixels_per_unit: int = 1
    ev: int = 100
    face_value: int = 1000
    url: str = "https://orchestrator.test:8935"
    address: bytes = bytes(19) + b"\x07"
    recipient: bytes = bytes(19) + b"\x08"
    recipient_rand_hash: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    seed: int = 77
    expiration_block: int = L1_BLOCK + 40
    creation_round: int = ROUND
    creation_round_hash: bytes = ROUND_HASH
    auth_seconds: int = 1800
    session_id: str = "1a2b3c4d"

    @property
    def win_prob(self) -> int:
        """The least that makes a ticket worth at least `ev`."""
        return -(-self.ev * CERTAIN // self.face_value)

    def message(self) -> OrchestratorInfo:
        info = OrchestratorInfo(transcoder=self.url, address=self.address)
        info.price_info.price_per_unit = self.price_per_unit
        info.price_info.pixels_per_unit = self.pixels_per_unit
        params = info.ticket_params
        params.recipient = self.recipient
        params.face_value = number(self.face_value)
        params.win_prob = number(self.win_prob)
        params.recipient_rand_hash = self.recipient_rand_hash
        params.seed = number(self.seed)
        params.expiration_block = number(self.expiration_block)
        params.expiration_params.creation_round = self.creation_round
        params.expiration_params.creation_round_block_hash = self.creation_round_hash
        info.auth_token.token = bytes(32)
        info.auth_token.session_id = self.session_id
        info.auth_token.expiration = int(self.now.timestamp()) + self.auth_seconds
        return info

    def text(self) -> str:
        return self.encoded(self.message())

    def encoded(self, message: OrchestratorInfo) -> str:
        return b64encode(message.SerializeToString()).decode()


def number(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8)


def body(quote: str, *, manifest_id: str = "1a2b3c4d", state: Any = None, **more: Any) -> str:
    """The JSON of a request to /generate-live-payment, as the SDK sends it."""
    content = {"orchestrator": quote, "type": "live", "ManifestID": manifest_id, **more}
    if state is not None:
        content["state"] = state
    return json.dumps(content)
