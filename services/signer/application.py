"""The signer's use cases: many payments, one commit; nothing is released before it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar
from uuid import UUID

import structlog
from eventsourcing.persistence import IntegrityError, PersistenceError
from eventsourcing.utils import EnvType

from services.signer.admission import Admission
from services.signer.batch import Batch
from services.signer.deciding import AllowanceNeeded, Deciding, Grant
from services.signer.domain.fence import Fence
from services.signer.domain.session import PaymentSession
from services.signer.intent import Intent, PaymentRequest, Reader
from services.signer.payer import Payer
from services.signer.permits import UNLIMITED, Permits
from services.signer.refusal import BadRequestError, PaymentRefusal, refused, unavailable
from services.signer.rules import Limits
from services.signer.state import StateSeal
from services.signer.upfront import Upfront
from shared import telemetry
from shared.history import begin_epoch
from shared.refusal import Refused
from shared.store import Effect, EventSourced

ATTEMPTS = 5
USES_MAX = 200_000
REFRESH = 480
SILENT = frozenset({REFRESH, 482})  # answers of an ordinary session: no trace on its timeline


@dataclass(frozen=True, slots=True)
class Close:
    """What quota wants back: the session's allowance, if nobody used it for `idle_seconds`."""

    account_id: str
    session_id: str
    ask_number: int
    idle_seconds: int


log = structlog.get_logger()

type Outcome = str | PaymentRefusal | AllowanceNeeded


class SessionNotFound(Refused):
    code = "session_not_found"


class PayerUnknown(Refused):
    """This signer does not hold the payer's key."""

    code = "payer_unknown"


class Signing(EventSourced):
    """Decides, signs and stores payments; the first payer is that of credentials which name none."""

    name = "signer"
    snapshotting_intervals: ClassVar = {PaymentSession: 500}

    def __init__(
        self,
        payers: Sequence[Payer],
        seal: StateSeal,
        limits: Limits,
        env: EnvType | None = None,
        *,
        adopts_foreign_states: bool = False,
        permits: Permits = UNLIMITED,
    ) -> None:
        super().__init__(env)
        self._payers = {payer.address: payer for payer in payers}
        self._deciding = {address: Deciding(payer, seal, limits) for address, payer in self._payers.items()}
        self.default_payer = payers[0].address
        reader = Reader(seal, self.default_payer, adopts_foreign_states)
        self._admission = Admission(reader, permits)
        self._upfront = Upfront()
        self._used_at: dict[UUID, datetime] = {}

    def sign_all(
        self,
        requests: Sequence[PaymentRequest],
        now: datetime,
        grants: Mapping[int, Grant] | None = None,
    ) -> list[Outcome]:
        """Answer all waiting requests with one commit; `grants` are quota's answers by index.

        Raises PersistenceError if the store cannot be reached: nothing was released then.
        """
        grants = grants or {}
        intents = [
            self._admission.admit(request, now, is_counted=i in grants) for i, request in enumerate(requests)
        ]
        try:
            return self._attempt(intents, now, grants)
        except IntegrityError:
            # Another replica was faster on one of them: reload, decide and sign again.
            return [self._sign_alone(intent, now, grants.get(i)) for i, intent in enumerate(intents)]

    def _sign_alone(self, intent: Intent | PaymentRefusal, now: datetime, grant: Grant | None) -> Outcome:
        for _ in range(ATTEMPTS):
            try:
                [outcome] = self._attempt([intent], now, {0: grant} if grant else {})
            except IntegrityError:
                continue
            return outcome
        return unavailable("too_many_conflicts")

    def _attempt(
        self, intents: Sequence[Intent | PaymentRefusal], now: datetime, grants: Mapping[int, Grant]
    ) -> list[Outcome]:
        batch = Batch(self, intents)
        try:
            outcomes = [
                self._decide(intent, batch, now, grants.get(index)) if isinstance(intent, Intent) else intent
                for index, intent in enumerate(intents)
            ]
            self.save(*batch.changed(), effects=self._epoch_effects(batch))
        except BaseException:
            batch.forget()
            raise
        self._note_signed(intents, outcomes, now)
        telemetry.signed_tickets_total.inc(batch.tickets)
        telemetry.signed_wei_total.inc(batch.cost)
        return outcomes

    def _epoch_effects(self, batch: Batch) -> list[Effect]:
        if batch.new_epoch is None:
            return []
        epoch, reason = batch.new_epoch
        return [begin_epoch(self.name, reason, epoch=epoch)]

    def _decide(self, intent: Intent, batch: Batch, now: datetime, grant: Grant | None) -> Outcome:
        deciding = self._deciding.get(intent.payer)
        if deciding is None:
            log.error("payer_unknown", payer=intent.payer)
            return unavailable("payer_unknown")
        session = batch.session(intent)
        if session is not None and intent.refusal is None:
            self._note_use(session.id, now)
        try:
            if intent.refusal is not None:
                raise intent.refusal
            if session is None and grant is None:
                self._upfront.check(intent, now)
            return deciding.decide(intent, batch, now, grant)
        except BadRequestError as problem:
            refusal = refused(400, "bad_request", str(problem))
        except PaymentRefusal as problem:
            refusal = problem
            if refusal.status == REFRESH:
                refusal.orchestrator_url = intent.quote.orchestrator_url
        if session is not None and refusal.status not in SILENT:
            session.record_refusal(
                status=refusal.status, reason=refusal.reason, message=str(refusal), now=now
            )
        return refusal

    def _note_signed(
        self, intents: Sequence[Intent | PaymentRefusal], outcomes: Sequence[Outcome], now: datetime
    ) -> None:
        for intent, outcome in zip(intents, outcomes, strict=True):
            if isinstance(intent, Intent) and isinstance(outcome, str):
                self._upfront.note(intent, now)
                self._admission.note_signed(intent)

    def _note_use(self, session_uuid: UUID, now: datetime) -> None:
        if len(self._used_at) >= USES_MAX:
            self._used_at.clear()  # sessions then look idle; one that is not asks quota anew
        self._used_at[session_uuid] = now

    # Other use cases

    def note_refusal(
        self, account_id: str, session_id: str, *, status: int, reason: str, message: str, now: datetime
    ) -> None:
        """Leave quota's refusal on the timeline of a session that exists."""
        session_uuid = PaymentSession.create_id(account_id, session_id)
        if self.absent([session_uuid]):
            return

        def note(session: PaymentSession) -> None:
            session.record_refusal(status=status, reason=reason, message=message, now=now)

        self._change(session_uuid, note)

    def close_all(self, closes: Sequence[Close], now: datetime) -> list[str]:
        """Close idle sessions with one commit; one that never opened becomes a tombstone.

        With no idle seconds it is a withdrawal: the session's next payment has to ask quota.
        Returns the ids of those that are in use, and so stay open.
        """
        busy = [close for close in closes if self._is_used(close, now)]
        due = [close for close in closes if close not in busy]
        try:
            self._close_together(due, now)
        except IntegrityError:
            for close in due:
                self._close_alone(close, now)
        return [close.session_id for close in busy]

    def _is_used(self, close: Close, now: datetime) -> bool:
        used_at = self._used_at.get(PaymentSession.create_id(close.account_id, close.session_id))
        return used_at is not None and (now - used_at).total_seconds() < close.idle_seconds

    def _close_together(self, closes: Sequence[Close], now: datetime) -> None:
        by_id = {PaymentSession.create_id(close.account_id, close.session_id): close for close in closes}
        absent = self.absent(by_id)
        sessions: list[PaymentSession] = []
        try:
            for session_uuid, close in by_id.items():
                session = (
                    PaymentSession(close.account_id, close.session_id, timestamp=now)
                    if session_uuid in absent
                    else self.repository.get(session_uuid)
                )
                session.close(close.ask_number, now)
                sessions.append(session)
            self.save(*sessions)
        except BaseException:
            self.forget(*by_id)
            raise
        for session_uuid in by_id:
            self._used_at.pop(session_uuid, None)

    def _close_alone(self, close: Close, now: datetime) -> None:
        for attempt in range(ATTEMPTS):
            try:
                self._close_together([close], now)
            except IntegrityError:
                if attempt == ATTEMPTS - 1:
                    raise
            else:
                return

    def session(self, account_id: str, session_id: str) -> PaymentSession:
        session_uuid = PaymentSession.create_id(account_id, session_id)
        if self.absent([session_uuid]):
            raise SessionNotFound(session_id)
        self.catch_up([session_uuid])  # another replica may serve it
        found: PaymentSession = self.repository.get(session_uuid)
        return found

    def signed_address(self, payer: str | None) -> tuple[str, str]:
        """A payer's address and its signature; raises PayerUnknown."""
        found = self._payers.get(payer or self.default_payer)
        if found is None:
            raise PayerUnknown(payer)
        return found.signed_address

    def refresh_fences(self, now: datetime) -> None:
        """Notice fences and epochs of other processes; have a fence a payer, so that it stays in memory."""
        self.refresh_epoch()
        for payer in self._payers:
            self._refresh_fence(payer, now)

    def _refresh_fence(self, payer: str, now: datetime) -> None:
        fence_id = Fence.create_id(payer)
        self.forget(fence_id)
        if self.absent([fence_id]):
            try:
                self.save(Fence(payer, timestamp=now))
            except IntegrityError:
                return  # another replica made it
        self.repository.get(fence_id)

    def _change(self, session_uuid: UUID, change: Callable[[PaymentSession], None]) -> None:
        for attempt in range(ATTEMPTS):
            session: PaymentSession = self.repository.get(session_uuid)
            change(session)
            try:
                self.save(session)
            except PersistenceError as problem:
                # In memory it has moved on; whether it has in the store, only the store knows.
                self.forget(session_uuid)
                if not isinstance(problem, IntegrityError) or attempt == ATTEMPTS - 1:
                    raise
            else:
                return
