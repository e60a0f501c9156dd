"""A sender that signs as Livepeer Studio does."""

import hmac
import json
import random
from typing import Any
from uuid import uuid4


def body_of(now_ms: int, *, event: str = "stream.started", **changes: Any) -> dict[str, Any]:
    """A delivery in the order of Livepeer Studio's keys; `changes` replace keys, of `stream` as well."""
    stream = {
        "id": "5c0f4e3a-1c1f-4a58-9f6c-3c1d6f1f7a10",
        "name": "a show",
        "creatorId": {"type": "unverified", "value": "ann"},
        "userTags": {},
        "isActive": event == "stream.started",
        "lastSeen": 0,
        "createdAt": now_ms - 10_000_000,
        "sourceSegmentsDuration": 0.5,
        "profiles": [{"name": "720p"}],
        "pull": {"location": {"lat": 1.5, "lon": 2.5}},
    }
    body = {
        "id": str(uuid4()),
        "webhookId": "8a2c3f1e-0b7d-4a5e-9d2f-6b1c0e9d8f77",
        "createdAt": now_ms,
        "timestamp": now_ms,
        "event": event,
        "stream": {**stream, **changes.pop("stream", {})},
    }
    return {**body, **changes}


def signed(secret: str, body: bytes, at_ms: int) -> dict[str, str]:
    digest = hmac.new(secret.encode(), body, "sha256").hexdigest()
    return {"livepeer-signature": f"t={at_ms},v1={digest}", "content-type": "application/json"}


def to_bytes(body: Any) -> bytes:
    return json.dumps(body).encode()


def bent(chance: random.Random, data: bytes) -> bytes:
    """Change some bytes, cut a piece out, or double one."""
    for _ in range(chance.randrange(4)):
        place, length = chance.randrange(len(data)), chance.randrange(1, 9)
        piece = data[place : place + length]
        inserted = chance.choice([b"", piece * 2, chance.randbytes(length), b"9" * 40, b"null", b'{"a":['])
        data = data[:place] + inserted + data[place + length :]
    return data or b"x"
