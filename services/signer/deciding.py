"""One payment: may it be signed, for how many tickets, and what is the reply (protocol §1.4).

Decisions become events of the session and of the ticket sequence; nothing here stores or sends.
"""

import secrets
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from services.signer.batch import Batch
from services.signer.domain.sequence import TicketSequence
from services.signer.domain.session import PaymentSession
from services.signer.intent import Intent
from services.signer.parsing import BadRequestError, PaymentBody
from services.signer.quote import Quote
from services.signer.rules import (
    NONCES_MAX,
    TICKETS_MAX,
    ChainView,
    Limits,
    billable_units,
    check_params,
    check_price,
    refresh_session,
    refused,
    tickets_due,
    total_ev_text,
)
from services.signer.state import State, StateSeal, encode, go_time
from services.signer.tickets import (
    Key,
    encode_credentials,
    encode_payment,
    sign_credentials,
    sign_tickets,
)
from shared.money import CERTAIN, Wei, batch_cost

MANIFESTS_PER_SESSION = 8


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


class Deciding:
    """The rules of one payer's key. `chain` is the chain as seen last, None if that is long ago."""

    def __init__(
        self, key: Key, seal: StateSeal, limits: Limits, chain: Callable[[], ChainView | None]
    ) -> None:
        self._key = key
        self._seal = seal
        self._limits = limits
        self._chain = chain
        self.payer = "0x" + key.address.hex()

    def decide(
        self,
        intent: Intent,
        session: PaymentSession | None,
        batch: Batch,
        now: datetime,
        grant: Grant | None,
    ) -> str | AllowanceNeeded:
        """The reply to release after the commit, or what quota has to grant first.

        Raises PaymentRefusal or BadRequestError.
        """
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
        batch.tickets += tickets
        batch.cost += cost
        return self._reply(intent, session)

    def _check_continuity(
        self, intent: Intent, session: PaymentSession | None, batch: Batch, now: datetime
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
            timestamp=now,
        )

    def _name_manifest(self, intent: Intent, session: PaymentSession, now: datetime) -> None:
        """Sign the segment credentials of a manifest once, and keep them."""
        manifest_id = intent.body.manifest_id
        if not session.manifests and not manifest_id:
            manifest_id = secrets.token_hex(4)
        if manifest_id and manifest_id not in session.manifests:
            credentials = sign_credentials(self._key, manifest_id)
            session.name_manifest(manifest_id, b64encode(credentials).decode(), timestamp=now)

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
