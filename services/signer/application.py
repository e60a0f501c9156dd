"""The signer's use cases: many payments, one commit; nothing is released before it."""

import secrets
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import ClassVar
from uuid import UUID, uuid4

from eventsourcing.persistence import IntegrityError
from eventsourcing.utils import EnvType

from services.signer.domain.fence import Fence
from services.signer.domain.sequence import TicketSequence
from services.signer.domain.session import PaymentSession
from services.signer.parsing import BadRequestError, PaymentBody, Quote, parse_body, parse_quote
from services.signer.rules import (
    NONCES_MAX,
    TICKETS_MAX,
    ChainView,
    Limits,
    PaymentRefusal,
    billable_units,
    check_params,
    check_price,
    refresh_session,
    refused,
    tickets_due,
    total_ev_text,
)
from services.signer.state import Reference, State, StateSeal, encode, go_time
from services.signer.tickets import (
    Key,
    encode_credentials,
    encode_payment,
    sign_address,
    sign_credentials,
    sign_tickets,
)
from shared.log import raise_epoch
from shared.money import CERTAIN, Wei, batch_cost
from shared.refusal import Refused
from shared.store import EventSourced

MANIFEST_MAX = 256
MANIFESTS_PER_SESSION = 8
ATTEMPTS = 5
USES_MAX = 200_000
REFRESH = 480
SILENT = frozenset({REFRESH, 482})  # answers of an ordinary session: no trace on its timeline


@dataclass(frozen=True, slots=True)
class PaymentRequest:
    """One request as it came over the bus; who asks is the edge's word, the body the client's."""

    account_id: str
    key_id: str
    user_id: str | None
    stream_id: str | None
    body: str


@dataclass(frozen=True, slots=True)
class AllowanceNeeded:
    """The batch may be signed once quota has granted this."""

    account_id: str
    user_id: str | None
    key_id: str
    session_id: str
    number: int
    payer: str
    needed: Wei
    wanted: Wei


@dataclass(frozen=True, slots=True)
class Grant:
    number: int
    amount: Wei


@dataclass(frozen=True, slots=True)
class Intent:
    """A request read so far as it can be without the session."""

    request: PaymentRequest
    body: PaymentBody
    quote: Quote
    session_id: str
    reference: Reference | None  # none: the first payment of a session
    digest: str


type Outcome = str | PaymentRefusal | AllowanceNeeded


class SessionNotFound(Refused):
    code = "session_not_found"


class SessionBusy(Refused):
    code = "session_busy"


class Signing(EventSourced):
    """Decides, signs and stores payments for one payer.

    `chain` gives the chain as seen last, or None if that is too long ago; `now` the time.
    """

    name = "signer"
    snapshotting_intervals: ClassVar = {PaymentSession: 500}

    def __init__(
        self,
        key: Key,
        seal: StateSeal,
        limits: Limits,
        chain: Callable[[], ChainView | None],
        env: EnvType | None = None,
    ) -> None:
        super().__init__(env)
        self._key = key
        self._seal = seal
        self._limits = limits
        self._chain = chain
        self.payer = "0x" + key.address.hex()
        self._fence_id = Fence.create_id(self.payer)
        self.signed_address = sign_address(key)
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
        try:
            return self._attempt(requests, now, grants)
        except IntegrityError:
            # Another replica was faster on one of them: reload, decide and sign again.
            return [self._sign_alone(request, now, grants.get(i)) for i, request in enumerate(requests)]

    def _sign_alone(self, request: PaymentRequest, now: datetime, grant: Grant | None) -> Outcome:
        for _ in range(ATTEMPTS):
            try:
                [outcome] = self._attempt([request], now, {0: grant} if grant else {})
            except IntegrityError:
                continue
            return outcome
        return refused(503, "too_many_conflicts", "Service Unavailable Error")

    def _attempt(
        self, requests: Sequence[PaymentRequest], now: datetime, grants: Mapping[int, Grant]
    ) -> list[Outcome]:
        intents = [self._read(request) for request in requests]
        batch = Batch(self, intents, self.payer)
        try:
            outcomes = [
                self._decide(intent, batch, now, grants.get(index)) if isinstance(intent, Intent) else intent
                for index, intent in enumerate(intents)
            ]
            self.save(*batch.changed(), effects=[raise_epoch("signer")] if batch.fence_raised else [])
        except BaseException:
            batch.forget()
            raise
        return outcomes

    def _read(self, request: PaymentRequest) -> Intent | PaymentRefusal:
        """Steps 2 to 7 of protocol §1.4: what can be refused without a look at the session."""
        try:
            body = parse_body(request.body)
            quote = parse_quote(body.orchestrator)
            reference = None
            if body.has_state:
                reference = self._seal.open(request.account_id, body.state, body.state_sig)
            if len(body.manifest_id) > MANIFEST_MAX:
                raise BadRequestError(f"ManifestID is longer than {MANIFEST_MAX} characters")
        except BadRequestError as problem:
            return refused(400, "bad_request", str(problem))
        if reference is not None:
            session_id = reference.state_id
        elif body.manifest_id:
            # A first request is idempotent on these (design §4.3).
            session_id = self._seal.derive_id(request.account_id, body.manifest_id, quote.rand_hash_hex)
        else:
            session_id = uuid4().hex
        digest = b64encode(sha256(request.body.encode()).digest()[:16]).decode()
        return Intent(request, body, quote, session_id, reference, digest)

    def _decide(self, intent: Intent, batch: "Batch", now: datetime, grant: Grant | None) -> Outcome:
        session = batch.session(intent)
        if session is not None:
            self._note_use(session.id, now)
        try:
            return self._sign(intent, session, batch, now, grant)
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

    def _note_use(self, session_uuid: UUID, now: datetime) -> None:
        if len(self._used_at) >= USES_MAX:
            self._used_at.clear()  # sessions then look idle; one that is not asks quota anew
        self._used_at[session_uuid] = now

    def _sign(
        self,
        intent: Intent,
        session: PaymentSession | None,
        batch: "Batch",
        now: datetime,
        grant: Grant | None,
    ) -> Outcome:
        body, quote = intent.body, intent.quote
        lost = self._check_continuity(intent, session, batch, now)
        chain = self._chain()
        if chain is None:
            raise refused(503, "chain_unknown", "Service Unavailable Error")
        check_params(quote, chain, self._limits, now, batch.fence_block())
        sequence = batch.sequence(quote)
        if session is not None and _is_repeat(intent, session):
            return self._reply(intent, session)
        if sequence is not None and sequence.last >= NONCES_MAX:
            raise refresh_session()

        paid = session if session is not None and session.paid else None
        units = billable_units(body.job_type, now - paid.last_at if paid else None)
        check_price(quote, body.job_type, body.max_price, paid.price if paid else None, self._limits)
        tickets = self._tickets(quote, paid, units, lost=lost)
        cost = batch_cost(Wei(quote.face_value), quote.win_prob, tickets)
        if session is None and grant is not None:
            session = batch.new_session(intent, now)
            self._open(intent, session, now)
        if session is not None and grant is not None:
            session.grant(grant.number, grant.amount, now)
        if session is None or cost > session.allowance_left:
            return self._ask(intent, session, cost, now)
        sequence = sequence or batch.new_sequence(quote, now)
        self._book(intent, session, sequence, units=units, tickets=tickets, lost=lost, now=now)
        return self._reply(intent, session)

    def _check_continuity(
        self, intent: Intent, session: PaymentSession | None, batch: "Batch", now: datetime
    ) -> bool:
        """Steps 7 and 8, and design §4.2; true if the client never got our last reply."""
        reference = intent.reference
        if reference is None:
            if session is not None and session.opened_at is None:
                raise refresh_session()  # a tombstone: quota took its allowance back
            if session is not None:
                _check_same_job(intent.body, session)
            return False
        if session is None or reference.sequence > session.sequence:
            batch.raise_fence(self._chain(), "a client holds a state ahead of the log", now)
            raise refresh_session()
        if session.orchestrator != "0x" + intent.quote.orchestrator.hex():
            raise BadRequestError("orchestratorAddress mismatch")
        _check_same_job(intent.body, session)
        if not intent.body.manifest_id:
            raise BadRequestError("missing manifestID")
        known = intent.body.manifest_id in session.manifests
        if not known and len(session.manifests) >= MANIFESTS_PER_SESSION:
            raise BadRequestError("ManifestID changes too often in this session")
        return reference.sequence == session.sequence - 1 and intent.digest != session.last_digest

    def _tickets(self, quote: Quote, session: PaymentSession | None, units: int, *, lost: bool) -> int:
        """Steps 14 to 16: how many tickets are due."""
        pixels = session.pixels_per_unit if session else quote.pixels_per_unit
        price = session.price_per_unit if session else quote.price_per_unit
        ev = quote.face_value * quote.win_prob * pixels
        balance = (session.balance - (session.last_credit if lost else 0)) if session else 0
        fee = units * price * CERTAIN
        tickets = tickets_due(balance=balance, fee=fee, ev=ev, may_spare=session is not None)
        if tickets <= 0:
            raise refused(482, "no_tickets", "no tickets")
        if tickets > TICKETS_MAX:
            text = f"numTickets {tickets} exceeds maximum of {TICKETS_MAX}"
            raise refused(400, "too_many_tickets", text)
        if quote.face_value * quote.win_prob * tickets > self._limits.max_total_ev * CERTAIN:
            raise refused(500, "total_ev_too_high", total_ev_text(quote, tickets, self._limits))
        return tickets

    def _ask(
        self, intent: Intent, session: PaymentSession | None, cost: Wei, now: datetime
    ) -> AllowanceNeeded:
        request = intent.request
        return AllowanceNeeded(
            account_id=request.account_id,
            user_id=request.user_id,
            key_id=request.key_id,
            session_id=intent.session_id,
            number=session.asks + 1 if session else 1,
            payer=self.payer,
            needed=cost,
            wanted=session.wanted_allowance(cost, now) if session else cost,
        )

    def _book(
        self,
        intent: Intent,
        session: PaymentSession,
        sequence: TicketSequence,
        *,
        units: int,
        tickets: int,
        lost: bool,
        now: datetime,
    ) -> None:
        """Take nonces, sign, and put everything into events that one save stores."""
        quote = intent.quote
        self._name_manifest(intent, session, now)
        session.accept_quote(
            recipient_rand_hash=quote.rand_hash_hex,
            recipient="0x" + quote.recipient.hex(),
            face_value=quote.face_value,
            win_prob=quote.win_prob,
            creation_round=quote.creation_round,
            now=now,
        )
        nonces = sequence.take(tickets, now)
        signatures = sign_tickets(self._key, quote, nonces)
        session.record_payment(
            digest=intent.digest,
            units=units,
            nonces=nonces,
            signatures=b64encode(b"".join(signatures)).decode(),
            lost=lost,
            now=now,
        )

    def _open(self, intent: Intent, session: PaymentSession, now: datetime) -> None:
        session.open(
            user_id=intent.request.user_id,
            key_id=intent.request.key_id,
            stream_id=intent.request.stream_id,
            payer=self.payer,
            app=intent.body.app,
            job_type=intent.body.job_type,
            orchestrator="0x" + intent.quote.orchestrator.hex(),
            price_per_unit=intent.quote.price_per_unit,
            pixels_per_unit=intent.quote.pixels_per_unit,
            now=now,
        )

    def _name_manifest(self, intent: Intent, session: PaymentSession, now: datetime) -> None:
        """Sign the segment credentials of a manifest once, and keep them."""
        manifest_id = intent.body.manifest_id
        if not session.manifests and not manifest_id:
            manifest_id = secrets.token_hex(4)
        if manifest_id and manifest_id not in session.manifests:
            credentials = sign_credentials(self._key, manifest_id)
            session.name_manifest(manifest_id, b64encode(credentials).decode(), now)

    def _reply(self, intent: Intent, session: PaymentSession) -> str:
        """The JSON of protocol §1.3, from what is stored: the same request gives the same bytes."""
        quote = intent.quote
        joined = b64decode(session.last_signatures)
        signatures = [joined[start : start + 65] for start in range(0, len(joined), 65)]
        payment = encode_payment(quote, self._key.address, session.last_first_nonce, signatures)
        manifest_id = intent.body.manifest_id or next(iter(session.manifests))
        assert quote.auth_token is not None
        credentials = encode_credentials(
            manifest_id,
            b64decode(session.manifests[manifest_id]),
            quote.auth_token,
            intent.body.capabilities,
        )
        state = self._seal.wire(session.account_id, encode(_state_of(session)))
        return f'{{"payment":"{payment}","segCreds":"{credentials}","state":{state}}}'

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

    def close_session(
        self, account_id: str, session_id: str, *, ask_number: int, idle_seconds: int, now: datetime
    ) -> None:
        """Close an idle session; one that never opened becomes a tombstone."""
        session_uuid = PaymentSession.create_id(account_id, session_id)
        used_at = self._used_at.get(session_uuid)
        if used_at is not None and (now - used_at).total_seconds() < idle_seconds:
            raise SessionBusy(session_id)
        self._used_at.pop(session_uuid, None)
        if self.absent([session_uuid]):
            session = PaymentSession(account_id, session_id, timestamp=now)
            session.close(ask_number, now)
            self.save(session)
        else:
            self._change(session_uuid, lambda session: session.close(ask_number, now))

    def session(self, account_id: str, session_id: str) -> PaymentSession:
        session_uuid = PaymentSession.create_id(account_id, session_id)
        if self.absent([session_uuid]):
            raise SessionNotFound(session_id)
        found: PaymentSession = self.repository.get(session_uuid)
        return found

    def refresh_fence(self, now: datetime) -> None:
        """Notice a fence that another replica raised; have one, so that it stays in memory."""
        self.forget(self._fence_id)
        if self.absent([self._fence_id]):
            try:
                self.save(Fence(self.payer, timestamp=now))
            except IntegrityError:
                return  # another replica made it
        self.repository.get(self._fence_id)

    def _change(self, session_uuid: UUID, change: Callable[[PaymentSession], None]) -> None:
        for attempt in range(ATTEMPTS):
            session: PaymentSession = self.repository.get(session_uuid)
            change(session)
            try:
                self.save(session)
            except IntegrityError:
                self.forget(session_uuid)
                if attempt == ATTEMPTS - 1:
                    raise
            else:
                return


class Batch:
    """Each aggregate once, however many requests of the batch touch it."""

    def __init__(self, signing: Signing, intents: Sequence[Intent | PaymentRefusal], payer: str) -> None:
        self._signing = signing
        self._payer = payer
        self._fence_id = Fence.create_id(payer)
        self._loaded: dict[UUID, PaymentSession | TicketSequence | Fence] = {}
        self.fence_raised = False
        wanted = {self._fence_id}
        for intent in intents:
            if isinstance(intent, Intent):
                wanted.add(PaymentSession.create_id(intent.request.account_id, intent.session_id))
                wanted.add(TicketSequence.create_id(payer, intent.quote.rand_hash_hex))
        self._absent = signing.absent(wanted)

    def session(self, intent: Intent) -> PaymentSession | None:
        session_uuid = PaymentSession.create_id(intent.request.account_id, intent.session_id)
        found = self._get(session_uuid)
        ahead = (
            intent.reference is not None
            and isinstance(found, PaymentSession)
            and (intent.reference.sequence > found.sequence)
        )
        if ahead:  # another replica may have signed since this one looked
            self._signing.forget(session_uuid)
            del self._loaded[session_uuid]
            found = self._get(session_uuid)
        assert found is None or isinstance(found, PaymentSession)
        return found

    def new_session(self, intent: Intent, now: datetime) -> PaymentSession:
        return self._add(PaymentSession(intent.request.account_id, intent.session_id, timestamp=now))

    def sequence(self, quote: Quote) -> TicketSequence | None:
        """The nonces of these params; refused if the same hash once stood for other params."""
        found = self._get(TicketSequence.create_id(self._payer, quote.rand_hash_hex))
        assert found is None or isinstance(found, TicketSequence)
        if found is not None and found.params != quote.params_text:
            raise BadRequestError("ticketParams differ from those seen with this recipientRandHash")
        return found

    def new_sequence(self, quote: Quote, now: datetime) -> TicketSequence:
        opened = TicketSequence(self._payer, quote.rand_hash_hex, quote.params_text, timestamp=now)
        return self._add(opened)

    def fence_block(self) -> int | None:
        found = self._get(self._fence_id)
        assert found is None or isinstance(found, Fence)
        return found.l1_block if found is not None else None

    def raise_fence(self, chain: ChainView | None, reason: str, now: datetime) -> None:
        if chain is None:
            raise refused(503, "chain_unknown", "Service Unavailable Error")
        found = self._get(self._fence_id) or self._add(Fence(self._payer, timestamp=now))
        assert isinstance(found, Fence)
        found.raise_to(chain.l1_block, reason, now)
        self.fence_raised = bool(found.pending_events)

    def changed(self) -> list[PaymentSession | TicketSequence | Fence]:
        return [aggregate for aggregate in self._loaded.values() if aggregate.pending_events]

    def forget(self) -> None:
        self._signing.forget(*self._loaded)

    def _get(self, aggregate_id: UUID) -> PaymentSession | TicketSequence | Fence | None:
        if aggregate_id not in self._loaded:
            if aggregate_id in self._absent:
                return None
            self._loaded[aggregate_id] = self._signing.repository.get(aggregate_id)
        return self._loaded[aggregate_id]

    def _add[A: (PaymentSession, TicketSequence, Fence)](self, aggregate: A) -> A:
        self._loaded[aggregate.id] = aggregate
        return aggregate


def _is_repeat(intent: Intent, session: PaymentSession) -> bool:
    """The very request that was answered last, or a first request that was answered before."""
    if not session.paid:
        return False
    if intent.reference is None:
        return session.sequence == 0 and intent.quote.rand_hash_hex == session.recipient_rand_hash
    return intent.reference.sequence == session.sequence - 1 and intent.digest == session.last_digest


def _check_same_job(body: PaymentBody, session: PaymentSession) -> None:
    if body.app != session.app:
        raise BadRequestError("app mismatch")
    if body.job_type != session.job_type:
        raise BadRequestError("job type mismatch")


def _state_of(session: PaymentSession) -> State:
    return State(
        state_id=session.session_id,
        pm_session_id="0x" + session.recipient_rand_hash,
        last_update=go_time(session.last_at),
        orchestrator_address=session.orchestrator,
        app=session.app,
        sender_nonce=session.last_nonce,
        balance=session.balance_wei,
        initial_price_per_unit=session.price_per_unit,
        initial_pixels_per_unit=session.pixels_per_unit,
        job_type=session.job_type,
        sequence=session.sequence,
    )
