"""A signer in memory with a key of the tests, and one client of it, which grants what is asked."""

import json
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from contracts.livepeer.payments_pb2 import Payment
from services.signer.application import Close, Outcome, Signing
from services.signer.deciding import AllowanceNeeded, Grant
from services.signer.intent import PaymentRequest
from services.signer.keys import LocalKey
from services.signer.payer import Payer
from services.signer.permits import UNLIMITED, Permits
from services.signer.refusal import PaymentRefusal
from services.signer.rules import ChainView, Limits
from services.signer.state import StateSeal
from shared.money import Wei
from tests.quotes import chain_view

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
RICH = Wei(10**15)
KEYS = (LocalKey(b"\x11" * 32), LocalKey(b"\x12" * 32))


class Signer:
    """`keys` are the payers'; `who` of a request is what the edge says of it."""

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        keys: Sequence[LocalKey] = KEYS[:1],
        adopts_foreign_states: bool = False,
        permits: Permits = UNLIMITED,
    ) -> None:
        self.now = START
        self.chain: ChainView | None = chain_view(START)
        payers = [Payer(key, lambda: self.chain) for key in keys]
        self.payer = payers[0]
        self.signing = Signing(
            payers,
            StateSeal([b"k" * 32]),
            limits or Limits(),
            adopts_foreign_states=adopts_foreign_states,
            permits=permits,
        )

    def ask(self, text: str, *, account: str = "account-1", grant: Wei | None = RICH, **who: Any) -> Outcome:
        request = PaymentRequest(
            account, who.pop("key", "key-1"), who.pop("user", None), who.pop("stream", None), text, **who
        )
        [outcome] = self.signing.sign_all([request], self.now)
        if isinstance(outcome, AllowanceNeeded) and grant is not None:
            granted = {0: Grant(outcome.number, grant)}
            [outcome] = self.signing.sign_all([request], self.now, granted)
        return outcome

    def pay(self, text: str, **how: Any) -> dict[str, Any]:
        outcome = self.ask(text, **how)
        assert isinstance(outcome, str), outcome
        reply: dict[str, Any] = json.loads(outcome)
        return reply

    def refused(self, text: str, **how: Any) -> PaymentRefusal:
        outcome = self.ask(text, **how)
        assert isinstance(outcome, PaymentRefusal), outcome
        return outcome

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        if self.chain is not None:
            self.chain = replace(self.chain, observed_at=self.now)

    def is_used(self, reply: dict[str, Any], *, idle_seconds: int) -> bool:
        """Whether quota, asking for its allowance, is told that the session is in use."""
        session_id = state_of(reply)["StateID"]
        return session_id in self.signing.close_all(
            [Close("account-1", session_id, 0, idle_seconds)], self.now
        )

    def stored(self) -> int:
        return self.signing.recorder.max_notification_id() or 0


def nonces(reply: dict[str, Any]) -> list[int]:
    payment = Payment.FromString(b64decode(reply["payment"]))
    return [ticket.sender_nonce for ticket in payment.ticket_sender_params]


def sequence_of(reply: dict[str, Any]) -> int:
    return int(json.loads(b64decode(reply["state"]["State"]))["SequenceNumber"])


def payment_of(reply: dict[str, Any]) -> Payment:
    return Payment.FromString(b64decode(reply["payment"]))


def state_of(reply: dict[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(b64decode(reply["state"]["State"]))
    return fields
