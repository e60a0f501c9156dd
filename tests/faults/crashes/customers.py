"""Clients that pay, repeat themselves, forget replies, come with old states, and go away."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Any

from contracts.signer import GeneratePayment
from tests.quotes import QuoteMaker, body

STATES_KEPT = 6
JOBS = ("live", "live", "lv2v", "fixed")


@dataclass
class Customer:
    """One client of one orchestrator, at one session after the other."""

    account_id: str
    key_id: str
    user_id: str | None
    random: Random
    now: datetime
    token_id: str | None = None  # of a session token that is shown instead of the key
    number: int = 0
    requests: int = 0
    states: list[dict[str, str]] = field(default_factory=list)
    sent: str = ""  # the body that was sent last

    def __post_init__(self) -> None:
        self.leave(self.now)

    def leave(self, now: datetime) -> None:
        """Begin a new session, with another orchestrator; half of them with a name of its own."""
        self.number += 1
        self.states.clear()
        self.sent = ""
        self.show_another_token()
        self.job_type = self.random.choice(JOBS)
        self.manifest_id = f"m{self.number}" if self.random.random() < 0.5 else ""
        self.quote_anew(now)

    def show_another_token(self) -> None:
        """Half of the users' sessions show session tokens; one may go on with another."""
        shows = self.user_id is not None and self.random.random() < 0.5
        self.token_id = f"{self.random.randrange(10**12):012}" if shows else None

    def quote_anew(self, now: datetime) -> None:
        """Other params of the orchestrator."""
        odd = self.random.randint(1, 90)
        self.quote = QuoteMaker(now, ev=100 + odd, face_value=1000 + odd, price_per_unit=10)
        self.quote.recipient_rand_hash = self.random.randbytes(32)
        if self.job_type == "lv2v":
            self.quote.pixels_per_unit = 27_648_000  # a second of 720p

    def share(self, others: Iterable["Customer"]) -> None:
        """Take the params of another one, if there is one: their nonces are one sequence."""
        for other in others:
            self.quote = other.quote
            self.quote.now = self.now
            self.states.clear()

    def next_body(self, now: datetime) -> str:
        self.now = now
        choice = self.random.random()
        if choice < 0.03:
            self.leave(now)
        elif choice < 0.10:
            self.quote_anew(now)
        elif choice < 0.13:
            self.show_another_token()
        if self.sent and choice > 0.8:
            return self.sent  # again, byte for byte
        state = self._state()
        self.requests += 1
        more: dict[str, Any] = {"type": self.job_type, "app": f"app-{self.requests}"[:3]}
        self.sent = body(self._quote(now), manifest_id=self._manifest(), state=state, **more)
        self.sent += " " * (self.requests % 50)  # no two bodies are the same by chance
        return self.sent

    def _state(self) -> dict[str, str] | None:
        if not self.states:
            return None
        behind = 1 if self.random.random() < 0.85 else self.random.randint(1, len(self.states))
        return self.states[-behind]

    def _manifest(self) -> str:
        return self.manifest_id or ("m" if self.states else "")

    def _quote(self, now: datetime) -> str:
        self.quote.now = now
        return self.quote.text()

    def request(self, now: datetime, request_id: str) -> GeneratePayment:
        return GeneratePayment(
            request_id=request_id,
            account_id=self.account_id,
            key_id=self.key_id,
            user_id=self.user_id,
            token_id=self.token_id,
            stream_id=None,
            body=self.next_body(now),
        )

    def got(self, reply: str) -> None:
        """A reply arrived, perhaps late."""
        self.states.append(json.loads(reply)["state"])
        del self.states[:-STATES_KEPT]
