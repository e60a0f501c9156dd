"""Payment intake: which tickets of a batch count, and what they are worth (§7.3 d to f).

A fatal fault ends the batch. Any other fault only ends crediting: later tickets still use up
their nonces and may still win, and the payment as a whole is answered with the first fault.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import structlog

from tilt.orchestrator.addresses import NOBODY, Address
from tilt.orchestrator.chain import Funds, Head
from tilt.orchestrator.headers import Presented
from tilt.orchestrator.journal import Journal
from tilt.orchestrator.ledger import Account, Ledger, SeenNonces
from tilt.orchestrator.messages import decode_params, decode_price
from tilt.orchestrator.refusals import Refused
from tilt.orchestrator.signatures import is_signed_by
from tilt.orchestrator.store import Store
from tilt.orchestrator.tickets import Ticket, TicketParams, rand_hash, recipient_rand, wins
from tilt.orchestrator.winners import Winner, Winners

log = structlog.get_logger()


class TicketFault(Exception):
    """This ticket is not credited."""


class FatalTicketFault(TicketFault):
    """No ticket of this batch can be good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The tickets of one payment, with what they are checked against."""

    params: TicketParams
    sender: Address
    manifest_id: str
    recipient_rand: int
    head: Head
    funds: Funds


@dataclass(slots=True, kw_only=True)
class Intake:
    recipient: Address
    ticket_secret: Callable[[], bytes]
    ledger: Ledger
    nonces: SeenNonces
    winners: Winners
    journal: Journal
    store: Store

    def process(self, presented: Presented, *, head: Head, funds: Funds) -> None:
        """Credit a payment's tickets; raise Refused for the first that is not good."""
        payment = presented.payment
        if payment.HasField("ticket_params") and not payment.sender:
            raise Refused(400, "could not find sender for payment")
        account = self.ledger.account(presented.sender, presented.manifest_id)
        if not payment.HasField("ticket_params"):
            account.fix_price(Fraction(0))
            return
        if not head.recipient_is_active:
            raise Refused(400, f"orchestrator is inactive in round {head.last_initialized_round}")
        price = decode_price(payment)
        params = decode_params(payment)
        account.fix_price(price)
        batch = self._batch(presented, params, price, head, funds)
        self._credit(presented, batch, account)

    def _batch(
        self,
        presented: Presented,
        params: TicketParams,
        price: Fraction,
        head: Head,
        funds: Funds,
    ) -> Batch:
        rand = recipient_rand(
            params, secret=self.ticket_secret(), sender=presented.sender, price=price
        )
        return Batch(
            params=params,
            sender=presented.sender,
            manifest_id=presented.manifest_id,
            recipient_rand=rand,
            head=head,
            funds=funds,
        )

    def _credit(self, presented: Presented, batch: Batch, account: Account) -> None:
        first_fault: TicketFault | None = None
        for signed in presented.payment.ticket_sender_params:
            ticket = Ticket(batch.params, batch.sender, signed.sender_nonce)
            try:
                self._receive(ticket, signed.sig, batch)
            except TicketFault as fault:
                self.journal.ticket_rejected(ticket, batch.manifest_id, str(fault))
                first_fault = first_fault or fault
                if isinstance(fault, FatalTicketFault):
                    raise Refused(400, str(fault)) from fault
                continue
            if first_fault is None:
                account.balance += batch.params.expected_value
                self.journal.ticket_accepted(ticket, batch.manifest_id)
            else:
                reason = f"not credited after: {first_fault}"
                self.journal.ticket_rejected(ticket, batch.manifest_id, reason)
        if first_fault is not None:
            raise Refused(400, str(first_fault)) from first_fault

    def _receive(self, ticket: Ticket, signature: bytes, batch: Batch) -> None:
        """Look at one ticket in go-livepeer's order; raise a fault for the first thing wrong."""
        _check_batch_is_ours(batch, self.recipient)
        if not is_signed_by(ticket.sender, ticket.hash(), signature):
            raise TicketFault("invalid ticket signature")
        # A signed winner can be redeemed whatever is wrong with its nonce.
        self._keep_if_winner(ticket, signature, batch.recipient_rand)
        self._take_nonce(ticket)
        if ticket.params.expiration_block <= batch.head.l1_block:
            raise TicketFault("TicketParams expired")

    def _keep_if_winner(self, ticket: Ticket, signature: bytes, rand: int) -> None:
        if wins(signature, rand, ticket.params.win_prob):
            self.winners.add(Winner(ticket=ticket, signature=signature, recipient_rand=rand))
            log.info("ticket_won", face_value=str(ticket.params.face_value), nonce=ticket.nonce)

    def _take_nonce(self, ticket: Ticket) -> None:
        params = ticket.params
        fault = self.nonces.fault_of(params.recipient_rand_hash, ticket.nonce)
        if fault is not None:
            raise TicketFault(fault)
        seen = (params.recipient_rand_hash, ticket.nonce, params.expiration_block)
        self.store.add_nonce(*seen)
        self.nonces.add(*seen)


def _check_batch_is_ours(batch: Batch, recipient: Address) -> None:
    if batch.funds.is_unlocking(batch.head.last_initialized_round):
        raise FatalTicketFault(
            "unable to validate sender: deposit and reserve is set to unlock soon"
        )
    if batch.params.recipient != recipient:
        raise FatalTicketFault("invalid ticket recipient")
    if batch.sender == NOBODY:
        raise FatalTicketFault("invalid ticket sender")
    if rand_hash(batch.recipient_rand) != batch.params.recipient_rand_hash:
        raise FatalTicketFault("invalid recipientRand for ticket recipientRandHash")
