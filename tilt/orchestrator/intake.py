"""Payment intake: which tickets of a batch count, and what they are worth (§7.3 d to f).

What is wrong with the params is fatal: no ticket under them counts. What is wrong with one ticket
only ends crediting: later ones still use up their nonces and may still win, and the payment is
answered with the first rejection.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import structlog

from contracts.livepeer import payments_pb2 as pb
from tilt.orchestrator.addresses import NOBODY, Address
from tilt.orchestrator.chain import Funds, Head
from tilt.orchestrator.journal import Journal
from tilt.orchestrator.ledger import Account, Kind, Ledger, SeenNonces
from tilt.orchestrator.messages import decode_params, decode_price
from tilt.orchestrator.refusals import RefusedError
from tilt.orchestrator.signatures import is_signed_by
from tilt.orchestrator.store import Store
from tilt.orchestrator.tickets import Ticket, TicketParams, rand_hash, recipient_rand, wins
from tilt.orchestrator.winners import Winner, Winners

type SignedTicket = tuple[Ticket, bytes]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A payment, and the manifest whose balance it raises."""

    payment: pb.Payment
    sender: Address
    manifest_id: str
    kind: Kind


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

    def process(self, received: Received, *, head: Head, funds: Funds) -> None:
        """Credit a payment's tickets; raise RefusedError for the first that is not good."""
        payment = received.payment
        if payment.HasField("ticket_params") and not payment.sender:
            raise RefusedError(400, "could not find sender for payment")
        account = self.ledger.open(received.sender, received.manifest_id, received.kind)
        account.payments += 1
        if not payment.HasField("ticket_params"):
            account.fix_price(Fraction(0))
            return
        if not head.recipient_is_active:
            raise RefusedError(400, f"orchestrator is inactive in round {head.last_initialized_round}")
        price = decode_price(payment)
        params = decode_params(payment)
        account.fix_price(price)
        rand = recipient_rand(params, secret=self.ticket_secret(), sender=received.sender, price=price)
        batch = Batch(
            params=params,
            sender=received.sender,
            manifest_id=received.manifest_id,
            recipient_rand=rand,
            head=head,
            funds=funds,
        )
        tickets = [
            (Ticket(params, received.sender, signed.sender_nonce), signed.sig)
            for signed in payment.ticket_sender_params
        ]
        self._check_batch(tickets, batch)
        self._credit(tickets, batch, account)

    def _check_batch(self, tickets: Sequence[SignedTicket], batch: Batch) -> None:
        """Refuse a whole batch before any of its tickets is touched."""
        fault = _fault_of_batch(batch, self.recipient)
        if fault is None or not tickets:
            return
        for ticket, _ in tickets:
            self.journal.ticket_rejected(ticket, batch.manifest_id, fault)
        raise RefusedError(400, fault)

    def _credit(self, tickets: Sequence[SignedTicket], batch: Batch, account: Account) -> None:
        first_fault: str | None = None
        for ticket, signature in tickets:
            fault = self._receive(ticket, signature, batch)
            if fault is None and first_fault is None:
                account.credit(batch.params.expected_value)
                self.journal.ticket_accepted(ticket, batch.manifest_id)
            else:
                reason = fault or f"not credited after: {first_fault}"
                self.journal.ticket_rejected(ticket, batch.manifest_id, reason)
                first_fault = first_fault or fault
        if first_fault is not None:
            raise RefusedError(400, first_fault)

    def _receive(self, ticket: Ticket, signature: bytes, batch: Batch) -> str | None:
        """Look at one ticket in go-livepeer's order; return the first thing that is wrong with it."""
        if not is_signed_by(ticket.sender, ticket.hash(), signature):
            return "invalid ticket signature"
        # A signed winner can be redeemed whatever is wrong with its nonce.
        self._keep_if_winner(ticket, signature, batch.recipient_rand)
        fault = self.nonces.fault_of(ticket.params.recipient_rand_hash, ticket.nonce)
        if fault is not None:
            return fault
        self._use_nonce(ticket)
        if ticket.params.expiration_block <= batch.head.l1_block:
            return "TicketParams expired"
        return None

    def _keep_if_winner(self, ticket: Ticket, signature: bytes, rand: int) -> None:
        if wins(signature, rand, ticket.params.win_prob):
            self.winners.add(Winner(ticket=ticket, signature=signature, recipient_rand=rand))
            log.info("ticket_won", face_value=str(ticket.params.face_value), nonce=ticket.nonce)

    def _use_nonce(self, ticket: Ticket) -> None:
        params = ticket.params
        seen = (params.recipient_rand_hash, ticket.nonce, params.expiration_block)
        self.store.add_nonce(*seen)
        self.nonces.add(*seen)


def _fault_of_batch(batch: Batch, recipient: Address) -> str | None:
    """Say what is wrong with every ticket of the batch at once, in go-livepeer's order."""
    if batch.funds.is_unlocking(batch.head.last_initialized_round):
        return "unable to validate sender: deposit and reserve is set to unlock soon"
    if batch.params.recipient != recipient:
        return "invalid ticket recipient"
    if batch.sender == NOBODY:
        return "invalid ticket sender"
    if rand_hash(batch.recipient_rand) != batch.params.recipient_rand_hash:
        return "invalid recipientRand for ticket recipientRandHash"
    return None
