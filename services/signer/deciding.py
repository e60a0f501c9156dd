"""One payment: may it be signed, for how many tickets, and what is the reply (protocol §1.4).

Decisions become events of the session and of the ticket sequence; nothing here stores or sends.
"""

import secrets
from base64 import b64encode
from dataclasses import dataclass
from datetime import datetime
from math import floor

from services.signer.asking import capability_text
from services.signer.batch import Batch
from services.signer.continuity import check_continuity, check_manifest, check_same_job, is_repeat
from services.signer.domain.sequence import TicketSequence
from services.signer.domain.session import PaymentSession
from services.signer.foreign import ForeignState, read_state
from services.signer.intent import Intent
from services.signer.parsing import read_capabilities
from services.signer.payer import Payer
from services.signer.quote import Quote
from services.signer.refusal import BadRequestError, refresh_session, refused, unavailable
from services.signer.reply import reply
from services.signer.rules import (
    METERED,
    NONCES_MAX,
    TICKETS_MAX,
    Ceiling,
    ChainView,
    Limits,
    billable_units,
    check_params,
    check_price,
    read_max_price,
    tickets_ahead,
    tickets_due,
    total_ev_text,
)
from services.signer.state import StateSeal
from services.signer.tickets import sign_credentials, sign_tickets
from shared.money import CERTAIN, Wei, batch_cost


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
    token_id: str | None = None
    optional: bool = False  # nothing is due but what would be paid ahead: a "no" is no refusal


@dataclass(frozen=True, slots=True)
class Grant:
    number: int
    amount: Wei


@dataclass(frozen=True, slots=True)
class Due:
    """How many tickets have to be signed now, and how many are signed if the allowance has room."""

    least: int
    most: int

    def within(self, allowance: Wei, quote: Quote) -> int:
        """How many to sign; at least one, so more than the allowance has room for if it has none."""
        room = allowance * CERTAIN // (quote.face_value * quote.win_prob)
        return min(self.most, max(self.least, room, 1))


class Deciding:
    """The rules of one payer."""

    def __init__(self, payer: Payer, seal: StateSeal, limits: Limits) -> None:
        self._payer = payer
        self._seal = seal
        self._limits = limits

    def decide(
        self, intent: Intent, batch: Batch, now: datetime, grant: Grant | None
    ) -> str | AllowanceNeeded:
        """The reply to release after the commit, or what quota has to grant first.

        In the order of protocol §1.4, from step 7 on. Raises PaymentRefusal or BadRequestError.
        """
        session = batch.session(intent)
        if intent.foreign is not None and session is None:
            session = self._adopt(intent, intent.foreign, batch, now)
        is_ahead = self._is_ahead(intent, session, batch, now)
        lost = not is_ahead and check_continuity(intent, session)
        read_capabilities(intent.body.capabilities)  # step 9: they must be readable
        sequence = self._check_params(intent, batch, now)
        if is_ahead:
            session = self._continue(intent, session, batch, now)
        if session is not None and is_repeat(intent, session):
            return reply(intent, session, self._payer, self._seal)
        if sequence is not None and sequence.last >= NONCES_MAX:
            raise refresh_session()

        paid = session if session is not None and session.paid else None
        body, quote = intent.body, intent.quote
        units = billable_units(body.job_type, body.in_pixels, now - paid.last_at if paid else None)
        self._check_price(intent, paid)
        due = self._due(intent, paid, units, lost=lost)
        tickets = due.within(_allowance(session, grant), quote)
        cost = batch_cost(Wei(quote.face_value), quote.win_prob, tickets)
        if session is None and grant is not None:
            session = self._open(intent, batch, now)
        if session is not None and grant is not None:
            session.grant(grant.number, grant.amount, now)
        if session is None or cost > session.allowance_left:
            return self._ask(intent, session, cost, due, now)
        sequence = sequence or batch.new_sequence(intent, now)
        self._book(intent, session, sequence, units=units, tickets=tickets, lost=lost, now=now)
        batch.tickets += tickets
        batch.cost += cost
        return reply(intent, session, self._payer, self._seal)

    def _chain(self) -> ChainView:
        chain = self._payer.chain()
        if chain is None:
            raise unavailable("chain_unknown")
        return chain

    def _is_ahead(self, intent: Intent, session: PaymentSession | None, batch: Batch, now: datetime) -> bool:
        """Whether the client holds a state of ours that the log lost, and that we can go on from.

        The first such state raises the fence, and is refused; so is one that the loss behind the
        fence does not explain, unless it shows a new one.
        """
        reference = intent.reference
        if reference is None or reference.last_at is None:
            return False
        if session is not None and reference.sequence <= session.sequence:
            return False
        batch.follow_epoch(intent.payer, self._chain(), now)  # the loss may be known already
        if not batch.fence_covers(intent.payer, reference.last_at):
            batch.raise_fence(intent.payer, self._chain(), "a client holds a state ahead of the log", now)
            raise refresh_session()
        before = session.continued_at if session is not None else None
        if before is not None and not batch.fence_covers(intent.payer, before):
            raise refresh_session()  # once a loss: another state of it brings nothing
        return True

    def _continue(
        self, intent: Intent, session: PaymentSession | None, batch: Batch, now: datetime
    ) -> PaymentSession:
        """Go on where the client's state says; its params are checked to be newer than the loss.

        The state is sealed by us, so what it says was so. What the session held is given back: which
        of its asks were lost only quota knows.
        """
        state = read_state(intent.body.state)
        if not intent.body.manifest_id:
            raise BadRequestError("missing manifestID")
        if state.orchestrator != "0x" + intent.quote.orchestrator.hex():
            raise BadRequestError("orchestratorAddress mismatch")
        if state.app != intent.body.app:
            raise BadRequestError("app mismatch")
        if state.job_type != intent.body.job_type:
            raise BadRequestError("job type mismatch")
        if session is None or session.opened_at is None:
            session = self._open(intent, batch, now, state, session)
        check_same_job(intent, session)
        check_manifest(intent, session)
        balance = state.balance * CERTAIN * session.pixels_per_unit
        session.continue_from(state.sequence, floor(balance), state.last_update or now, now)
        return session

    def _adopt(self, intent: Intent, foreign: ForeignState, batch: Batch, now: datetime) -> PaymentSession:
        """Go on where go-livepeer's signer left off, under params that it has never signed.

        So the first time it shows up, and as long as it comes with the same params, the client is
        sent for new ones.
        """
        if foreign.orchestrator != "0x" + intent.quote.orchestrator.hex():
            raise BadRequestError("orchestratorAddress mismatch")
        if foreign.app != intent.body.app:
            raise BadRequestError("app mismatch")
        if foreign.job_type not in {"", intent.body.job_type}:
            raise BadRequestError("job type mismatch")
        adoption = batch.adoption(intent.payer, foreign.state_id)
        if adoption is None:
            batch.announce_adoption(intent, foreign, now)
            raise refresh_session()
        if adoption.account_id != intent.request.account_id:
            raise BadRequestError("invalid sig")
        if intent.quote.rand_hash_hex in adoption.rand_hashes:
            raise refresh_session()
        session = self._open(intent, batch, now, foreign)
        balance = foreign.balance * CERTAIN * foreign.pixels_per_unit
        session.adopt(foreign.sequence, floor(balance), foreign.last_update or now, timestamp=now)
        return session

    def _check_params(self, intent: Intent, batch: Batch, now: datetime) -> TicketSequence | None:
        """Step 11; returns the nonces taken of these params, if any were."""
        chain = self._chain()
        batch.follow_epoch(intent.payer, chain, now)
        limits = intent.permit.tighten(self._limits)
        check_params(intent.quote, chain, limits, now, batch.fence_block(intent.payer))
        return batch.sequence(intent)

    def _check_price(self, intent: Intent, paid: PaymentSession | None) -> None:
        """Steps 13 to 15."""
        body, asked = intent.body, read_capabilities(intent.body.capabilities)
        wire = (
            (self._limits.max_prices.of(asked), "configured maximum price"),
            (read_max_price(body.max_price, body.job_type), "request maxPrice"),
            (paid.price if paid else None, "initial session price"),
        )
        ceilings = [Ceiling(price, source) for price, source in wire if price is not None]
        if intent.permit.scopes:
            ceilings += intent.permit.ceilings(body.job_type, body.capabilities)
        check_price(intent.quote.price, ceilings)

    def _due(self, intent: Intent, session: PaymentSession | None, units: int, *, lost: bool) -> Due:
        """Steps 14 to 16: how many tickets are due; those ahead are cut to what the caps allow."""
        quote = intent.quote
        pixels = session.pixels_per_unit if session else quote.pixels_per_unit
        price = session.price_per_unit if session else quote.price_per_unit
        ev = quote.face_value * quote.win_prob * pixels
        balance = (session.balance - (session.last_credit if lost else 0)) if session else 0
        fee = units * price * CERTAIN
        may_spare = session is not None and intent.body.job_type in METERED
        tickets = tickets_due(balance=balance, fee=fee, ev=ev, may_spare=may_spare)
        most = tickets
        if may_spare and self._limits.credit_ahead:
            ahead = billable_units(intent.body.job_type, 0, self._limits.credit_ahead) * price * CERTAIN
            wanted = tickets_ahead(balance=balance, fee=fee, fee_ahead=ahead, ev=ev)
            worth_max = self._limits.max_total_ev * CERTAIN
            most = max(tickets, min(wanted, TICKETS_MAX, worth_max // (quote.face_value * quote.win_prob)))
        if most <= 0:
            raise refused(482, "no_tickets", "no tickets")
        if tickets > TICKETS_MAX:
            text = f"numTickets {tickets} exceeds maximum of {TICKETS_MAX}"
            raise refused(400, "too_many_tickets", text)
        if quote.face_value * quote.win_prob * tickets > self._limits.max_total_ev * CERTAIN:
            raise refused(500, "total_ev_too_high", total_ev_text(quote, tickets, self._limits))
        return Due(tickets, most)

    def _ask(
        self, intent: Intent, session: PaymentSession | None, cost: Wei, due: Due, now: datetime
    ) -> AllowanceNeeded:
        request, quote = intent.request, intent.quote
        cost_ahead = batch_cost(Wei(quote.face_value), quote.win_prob, due.most)
        return AllowanceNeeded(
            account_id=request.account_id,
            user_id=request.user_id,
            key_id=request.key_id,
            token_id=request.token_id,
            session_id=intent.session_id,
            number=session.asks + 1 if session else 1,
            payer=self._payer.address,
            needed=cost,
            wanted=session.wanted_allowance(cost_ahead, now) if session else cost,
            optional=due.least == 0,
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
        session.use(intent.request.key_id, capability_text(intent.body.capabilities), now)
        session.accept_quote(
            recipient_rand_hash=quote.rand_hash_hex,
            recipient="0x" + quote.recipient.hex(),
            face_value=quote.face_value,
            win_prob=quote.win_prob,
            creation_round=quote.creation_round,
            now=now,
        )
        nonces = sequence.take(tickets, now)
        signatures = sign_tickets(self._payer.key, quote, nonces)
        session.record_payment(
            digest=intent.digest,
            units=units,
            nonces=nonces,
            signatures=b64encode(b"".join(signatures)).decode(),
            lost=lost,
            now=now,
        )

    def _open(
        self,
        intent: Intent,
        batch: Batch,
        now: datetime,
        carried: ForeignState | None = None,
        named: PaymentSession | None = None,
    ) -> PaymentSession:
        price = carried or intent.quote  # what a session began with that the client carried here
        session = named or batch.new_session(intent, now)
        session.open(
            user_id=intent.request.user_id,
            key_id=intent.request.key_id,
            stream_id=intent.request.stream_id,
            payer=self._payer.address,
            app=intent.body.app,
            job_type=intent.body.job_type,
            orchestrator="0x" + intent.quote.orchestrator.hex(),
            price_per_unit=price.price_per_unit,
            pixels_per_unit=price.pixels_per_unit,
            token_id=intent.request.token_id,
            capability=capability_text(intent.body.capabilities),
            timestamp=now,
        )
        return session

    def _name_manifest(self, intent: Intent, session: PaymentSession, now: datetime) -> None:
        """Sign the segment credentials of a manifest once, and keep them."""
        manifest_id = intent.body.manifest_id
        if not session.manifests and not manifest_id:
            manifest_id = secrets.token_hex(4)
        if manifest_id and manifest_id not in session.manifests:
            credentials = sign_credentials(self._payer.key, manifest_id)
            session.name_manifest(manifest_id, b64encode(credentials).decode(), timestamp=now)


def _allowance(session: PaymentSession | None, grant: Grant | None) -> Wei:
    """What the session may spend once it has taken this grant."""
    left = session.allowance_left if session is not None else Wei(0)
    asks = session.asks if session is not None else 0
    return Wei(left + grant.amount) if grant is not None and grant.number == asks + 1 else left
