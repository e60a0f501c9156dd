"""Payment sessions: what was paid, what it was worth, and what may still be spent."""

from datetime import datetime
from fractions import Fraction
from functools import lru_cache
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from eventsourcing.domain import Aggregate, event

from services.signer.domain.session_events import SessionEvents
from shared.money import CERTAIN, Wei, batch_cost

IDS_MAX = 50_000  # kept in memory: an id costs ten times a look-up
DIGESTS_KEPT = 32  # more than copies of requests can be late by
CLOSE_AGAIN_SECONDS = 30  # between two closes that quota asks for
REFUSAL_SECONDS, REFUSAL_SECONDS_MAX = 10, 3600  # between two of one reason; doubled each time
# What the first payment of a metered session covers, before any time has passed.
PRELOAD_SECONDS = {"live": 10, "lv2v": 60}
ASKS_LEFT_OUT = 1_000_000  # more than a session ever makes
ALLOWANCE_SECONDS = 60  # how much of its own pace a running session asks for


class PaymentSession(SessionEvents, Aggregate):
    """One chain of payments of one account to one orchestrator.

    `balance`, `credit` and `ev` count in 1/(CERTAIN x pixels_per_unit) wei: exact whole numbers.
    """

    TOPIC = "signer.payment_session"
    class_version = 5

    # The library looks for these two in the class itself.
    Event = SessionEvents.Event
    Named = SessionEvents.Named

    @staticmethod
    @lru_cache(maxsize=IDS_MAX)
    def create_id(account_id: str, session_id: str) -> UUID:
        return uuid5(NAMESPACE_URL, f"/accounts/{account_id}/sessions/{session_id}")

    @event(Named)
    def __init__(self, account_id: str, session_id: str, timestamp: datetime) -> None:
        self.account_id = account_id
        self.session_id = session_id
        self.opened_at: datetime | None = None
        self.manifests: dict[str, str] = {}
        self.recipient_rand_hash = ""
        self.granted = Wei(0)
        self.spent = Wei(0)
        self.asks = 0
        self.closed = False
        self.sequence = -1
        self.balance = 0
        self.last_credit = 0  # what the last batch added to the balance
        self.refused_at: dict[str, datetime] = {}  # since the last payment, by reason
        self.refused_seconds: dict[str, int] = {}  # until the same reason is noted again
        self.continued_at: datetime | None = None
        self.digests: list[str] = []  # of the requests paid last
        self.closed_at: datetime | None = None
        self.token_id: str | None = None
        self.capability = ""

    @staticmethod
    def upcast_v1_v2(state: dict[str, Any]) -> None:
        """Read snapshots from before refusals were kept by reason."""
        state["refused_at"] = {}
        state["refused_seconds"] = {}

    @staticmethod
    def upcast_v2_v3(state: dict[str, Any]) -> None:
        """Read snapshots from before sessions could go on after a restore, and knew old requests."""
        state["continued_at"] = None
        state["digests"] = [digest] if (digest := state.get("last_digest")) else []
        state["closed_at"] = None

    @staticmethod
    def upcast_v3_v4(state: dict[str, Any]) -> None:
        """Read snapshots from before there were session tokens."""
        state["token_id"] = None

    @staticmethod
    def upcast_v4_v5(state: dict[str, Any]) -> None:
        """Read snapshots from before sessions knew what was asked for."""
        state["capability"] = ""

    # What it knows

    @property
    def allowance_left(self) -> Wei:
        return Wei(self.granted - self.spent)

    @property
    def price(self) -> Fraction:
        return Fraction(self.price_per_unit, self.pixels_per_unit)

    @property
    def balance_wei(self) -> Fraction:
        return Fraction(self.balance, CERTAIN * self.pixels_per_unit)

    @property
    def paid(self) -> bool:
        return self.sequence >= 0

    def was_answered(self, digest: str) -> bool:
        """Whether this is a copy of a request that was paid before the last one.

        A request says which state it follows, so its client, who went on from there, waits no more.
        """
        return digest != self.last_digest and digest in self.digests if self.paid else False

    def ticket_ev(self, face_value: int, win_prob: int) -> int:
        return face_value * win_prob * self.pixels_per_unit

    def fee(self, units: int) -> int:
        return units * self.price_per_unit * CERTAIN

    def wanted_allowance(self, cost: Wei, now: datetime) -> Wei:
        """The first: just the batch. Later: about a minute of the session's own pace."""
        if self.opened_at is None or not self.paid:
            return cost
        covered = PRELOAD_SECONDS.get(self.job_type, 0) + int((now - self.opened_at).total_seconds())
        return Wei(max(cost, self.spent * ALLOWANCE_SECONDS // max(1, covered)))

    # What may be done with it: the first three need no decision, and are events themselves

    @event(SessionEvents.Opened)
    def open(
        self,
        user_id: str | None,
        key_id: str,
        stream_id: str | None,
        payer: str,
        app: str,
        job_type: str,
        orchestrator: str,
        price_per_unit: int,
        pixels_per_unit: int,
        token_id: str | None = None,
        capability: str = "",
        *,
        timestamp: datetime,
    ) -> None:
        self.opened_at = timestamp
        self.capability = capability
        self.user_id = user_id
        self.key_id = key_id
        self.token_id = token_id
        self.stream_id = stream_id
        self.payer = payer
        self.app = app
        self.job_type = job_type
        self.orchestrator = orchestrator
        self.price_per_unit = price_per_unit
        self.pixels_per_unit = pixels_per_unit
        self.payments = 0
        self.tickets = 0

    @event(SessionEvents.ManifestNamed)
    def name_manifest(self, manifest_id: str, credentials: str, timestamp: datetime) -> None:
        self.manifests[manifest_id] = credentials

    def use(self, key_id: str, capability: str, now: datetime) -> None:
        """Say whose key pays now and for what; a request that asks for nothing goes on with what was."""
        capability = capability or self.capability
        if (key_id, capability) != (self.key_id, self.capability):
            self._use_changed(key_id, capability, timestamp=now)

    @event(SessionEvents.UseChanged)
    def _use_changed(self, key_id: str, capability: str, timestamp: datetime) -> None:
        self.key_id = key_id
        self.capability = capability

    @event(SessionEvents.Adopted)
    def adopt(self, sequence: int, balance: int, last_at: datetime, timestamp: datetime) -> None:
        self.sequence = sequence
        self.balance = balance
        self.last_at = last_at
        self.last_digest = ""
        self.recipient = ""

    def continue_from(self, sequence: int, balance: int, last_at: datetime, now: datetime) -> None:
        """Take up what the client's state says, and give the allowance back.

        Which asks were lost nobody here knows, so their numbers are left out: a grant to one of them
        must not come again.
        """
        self._continued(sequence - self.sequence, sequence, balance, last_at, now)
        self.close(self.asks + ASKS_LEFT_OUT, now)

    def accept_quote(
        self,
        *,
        recipient_rand_hash: str,
        recipient: str,
        face_value: int,
        win_prob: int,
        creation_round: int,
        now: datetime,
    ) -> None:
        if recipient_rand_hash != self.recipient_rand_hash:
            self._quote_accepted(
                recipient_rand_hash=recipient_rand_hash,
                recipient=recipient,
                face_value=face_value,
                win_prob=win_prob,
                creation_round=creation_round,
                timestamp=now,
            )

    def grant(self, number: int, amount: Wei, now: datetime) -> None:
        """Take an allowance once; one that answers an ask from before a close is void."""
        if number == self.asks + 1:
            self._allowance_granted(number, amount, now)

    def record_payment(
        self,
        *,
        digest: str,
        units: int,
        nonces: range,
        signatures: str,
        lost: bool,
        now: datetime,
    ) -> Wei:
        """Book a signed batch and return its cost. The caller has checked that it may be paid."""
        cost = batch_cost(Wei(self.face_value), self.win_prob, len(nonces))
        assert cost <= self.allowance_left
        self.trigger_event(  # the decorated method's own call costs twice as much
            self.PaymentSigned,
            digest=digest,
            units=units,
            tickets=len(nonces),
            first_nonce=nonces.start,
            signatures=signatures,
            cost=cost,
            lost=lost,
            timestamp=now,
        )
        return cost

    def record_refusal(self, *, status: int, reason: str, message: str, now: datetime) -> None:
        """Leave a trace on the timeline: of each reason one at first, then ever more rarely."""
        at = self.refused_at.get(reason)
        if at is None or (now - at).total_seconds() >= self.refused_seconds[reason]:
            self._payment_refused(status, reason, message, now)

    def close(self, ask_number: int, now: datetime) -> None:
        """Give the allowance back. Grants up to `ask_number` that come later are void.

        A repeat stores nothing, unless quota granted again meanwhile. If quota goes on asking, it
        may have granted a late copy of an old ask, of which nobody here knows: then it is told again.
        """
        is_told = self.closed and ask_number <= self.asks
        if not is_told or not self._closed_lately(now):
            self._closed(self.spent, max(ask_number, self.asks), now)

    def _closed_lately(self, now: datetime) -> bool:
        return self.closed_at is not None and (now - self.closed_at).total_seconds() < CLOSE_AGAIN_SECONDS

    # What happened

    @event(SessionEvents.Continued)
    def _continued(
        self, payments_lost: int, sequence: int, balance: int, last_at: datetime, timestamp: datetime
    ) -> None:
        self.sequence = sequence
        self.balance = balance
        self.last_at = last_at
        self.last_credit = 0
        self.last_digest = ""
        self.recipient_rand_hash = ""  # the next payment names its params again
        self.recipient = ""
        self.continued_at = timestamp

    @event(SessionEvents.QuoteAccepted)
    def _quote_accepted(
        self,
        recipient_rand_hash: str,
        recipient: str,
        face_value: int,
        win_prob: int,
        creation_round: int,
        timestamp: datetime,
    ) -> None:
        self.recipient_rand_hash = recipient_rand_hash
        self.recipient = recipient
        self.face_value = face_value
        self.win_prob = win_prob
        self.creation_round = creation_round

    @event(SessionEvents.AllowanceGranted)
    def _allowance_granted(self, number: int, amount: Wei, timestamp: datetime) -> None:
        self.asks = number
        self.granted = Wei(self.granted + amount)
        self.closed = False

    @event(SessionEvents.PaymentSigned)
    def _payment_signed(
        self,
        digest: str,
        units: int,
        tickets: int,
        first_nonce: int,
        signatures: str,
        cost: Wei,
        lost: bool,
        timestamp: datetime,
    ) -> None:
        if lost:
            self.balance -= self.last_credit
        self.last_credit = tickets * self.ticket_ev(self.face_value, self.win_prob)
        self.balance += self.last_credit - self.fee(units)
        # A clock that steps back must not have the same time billed again when it comes forward.
        self.last_at = max(self.last_at, timestamp) if self.paid else timestamp
        self.sequence += 1
        self.spent = Wei(self.spent + cost)
        self.last_digest = digest
        self.digests = [*self.digests[1 - DIGESTS_KEPT :], digest]
        self.last_first_nonce = first_nonce
        self.last_nonce = first_nonce + tickets - 1
        self.last_signatures = signatures
        self.payments += 1
        self.tickets += tickets
        self.refused_at.clear()
        self.refused_seconds.clear()

    @event(SessionEvents.PaymentRefused)
    def _payment_refused(self, status: int, reason: str, message: str, timestamp: datetime) -> None:
        before = self.refused_seconds.get(reason)
        self.refused_seconds[reason] = min(2 * before, REFUSAL_SECONDS_MAX) if before else REFUSAL_SECONDS
        self.refused_at[reason] = timestamp

    @event(SessionEvents.Closed)
    def _closed(self, spent: Wei, ask_number: int, timestamp: datetime) -> None:
        self.granted = spent
        self.asks = ask_number
        self.closed = True
        self.closed_at = timestamp
