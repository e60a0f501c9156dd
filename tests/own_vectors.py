"""Vectors of our own, from the finished signer: what it is asked and what it answers, byte for byte.

`python -m tests.own_vectors` writes `tests/own_vectors.json` anew. Every input is fixed, so the same
code writes the same file. The params come from a recipient whose secret is in the file: who has it can
check each ticket without us, as the local orchestrator and the contract do in the tests.
"""

import json
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

from contracts.livepeer.payments_pb2 import Capabilities, OrchestratorInfo
from services.signer.application import Signing
from services.signer.deciding import AllowanceNeeded, Grant
from services.signer.intent import PaymentRequest
from services.signer.keys import LocalKey
from services.signer.payer import Payer
from services.signer.refusal import PaymentRefusal
from services.signer.rules import Limits
from services.signer.state import StateSeal
from shared.money import CERTAIN, Wei
from tests.quotes import QuoteMaker, chain_view
from tilt.orchestrator import tickets
from tilt.orchestrator.addresses import Address
from tilt.orchestrator.auth_tokens import AuthTokens

FILE = Path(__file__).with_suffix(".json")
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
PAYER_KEY, STATE_KEY = b"\x11" * 32, b"\x22" * 32
TICKET_SECRET, TOKEN_SECRET = b"\x07" * 32, b"\x08" * 32
PIXELS_PER_SECOND = 27_648_000
GRANTED = Wei(10**13)


@dataclass
class Story:
    """Payments of one session, one after the other."""

    name: str
    quote: dict[str, Any]
    fields: dict[str, Any]
    waits: list[float]  # seconds before each request
    asked: list[dict[str, Any]] = field(default_factory=list)  # what each changes


def stories() -> list[Story]:
    live = {"price_per_unit": 50, "ev": 100, "face_value": 1_000}
    pixels = {
        "price_per_unit": 50,
        "pixels_per_unit": PIXELS_PER_SECOND,
        "ev": 700,
        "face_value": 7_000_000,
    }
    asked = Capabilities(version="0.8.9")
    asked.constraints.per_capability[35].models["streamdiffusion"].warm = True
    capabilities = b64encode(asked.SerializeToString(deterministic=True)).decode()
    ceiling = {"price": 50.5, "currency": "wei", "unit": "seconds"}
    return [
        Story("live", live, {"type": "live", "app": "demo/echo", "maxPrice": ceiling}, [0, 3, 3.2, 0.5]),
        Story("lv2v", pixels, {"type": "lv2v", "capabilities": capabilities}, [0, 5, 5.000001, 60]),
        Story("fixed", {**live, "price_per_unit": 250}, {"type": "fixed"}, [0, 30]),
        Story("by pixels", live, {"type": "", "inPixels": 17}, [0, 1]),
        Story("nothing due", {**live, "ev": 900}, {"type": "live"}, [0, 1, 1]),
        Story("token ends", {**live, "auth_seconds": 180}, {"type": "live"}, [0, 1]),
        Story("too dear", {**live, "price_per_unit": 51}, {"type": "live", "maxPrice": ceiling}, [0]),
        Story("too many tickets", {**live, "price_per_unit": 5000}, {"type": "live"}, [0]),
        Story("no type", live, {"type": "transcode"}, [0]),
    ]


def make() -> dict[str, Any]:
    """Tell each story to a signer of its own."""
    return {
        "meta": "requests and answers of the signer; keys and secrets are throw-away ones",
        "payer_key": PAYER_KEY.hex(),
        "ticket_secret": TICKET_SECRET.hex(),
        "token_secret": TOKEN_SECRET.hex(),
        "stories": [_tell(number, story) for number, story in enumerate(stories(), start=1)],
    }


def _tell(number: int, story: Story) -> dict[str, Any]:
    payer = Payer(LocalKey(PAYER_KEY), lambda: chain_view(START))
    signing = Signing([payer], StateSeal([STATE_KEY]), Limits())
    quote = _quote(number, payer.key.address, story)
    steps = []
    state, now = None, START
    for seconds in story.waits:
        now += timedelta(seconds=seconds)
        content = {"orchestrator": quote, "ManifestID": f"manifest-{number}", **story.fields}
        body = json.dumps(content | ({"state": state} if state else {}))
        answer = _ask(signing, body, now)
        steps.append({"at": now.isoformat(), "body": body, "answer": answer})
        state = answer.get("state", state)
    return {"name": story.name, "steps": steps}


def _ask(signing: Signing, body: str, now: datetime) -> dict[str, Any]:
    request = PaymentRequest("account", "key", None, None, body)
    [outcome] = signing.sign_all([request], now)
    if isinstance(outcome, AllowanceNeeded):
        [outcome] = signing.sign_all([request], now, {0: Grant(outcome.number, GRANTED)})
    if isinstance(outcome, PaymentRefusal):
        return {"status": outcome.status, "message": str(outcome)}
    assert isinstance(outcome, str)
    answer: dict[str, Any] = json.loads(outcome)
    return {"status": 200, **answer}


def _quote(number: int, sender: bytes, story: Story) -> str:
    """As the orchestrator quotes: params whose preimage only its secret gives, and its own token."""
    session_id = f"0000000{number}"
    maker = QuoteMaker(START, seed=number, session_id=session_id, **story.quote)
    message = maker.message()
    params = tickets.TicketParams(
        recipient=Address(maker.recipient),
        face_value=tickets.Wei(maker.face_value),
        win_prob=maker.win_prob,
        recipient_rand_hash=b"",
        seed=maker.seed,
        expiration_block=maker.expiration_block,
        creation_round=maker.creation_round,
        creation_round_block_hash=maker.creation_round_hash,
    )
    rand = tickets.recipient_rand(
        params,
        secret=TICKET_SECRET,
        sender=Address(sender),
        price=Fraction(maker.price_per_unit, maker.pixels_per_unit),
    )
    message.ticket_params.recipient_rand_hash = tickets.rand_hash(rand)
    token = AuthTokens(TOKEN_SECRET).issue(session_id, expires_at=message.auth_token.expiration)
    message.auth_token.CopyFrom(token)
    return maker.encoded(message)


def quoted(body: str) -> OrchestratorInfo:
    return OrchestratorInfo.FromString(b64decode(json.loads(body)["orchestrator"]))


def expected_value(info: OrchestratorInfo) -> Fraction:
    params = info.ticket_params
    return Fraction(int.from_bytes(params.face_value) * int.from_bytes(params.win_prob), CERTAIN)


def load() -> dict[str, Any]:
    vectors: dict[str, Any] = json.loads(FILE.read_text())
    return vectors


if __name__ == "__main__":
    FILE.write_text(json.dumps(make(), indent=1) + "\n")
