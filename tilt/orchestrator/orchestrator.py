"""The orchestrator: what all ways to pay it share, that is quotes, credentials and balances."""

from collections.abc import Callable
from dataclasses import dataclass

from contracts.livepeer import payments_pb2 as pb
from tilt.orchestrator.addresses import Address
from tilt.orchestrator.auth_tokens import AuthTokens
from tilt.orchestrator.chain_view import ChainView
from tilt.orchestrator.challenges import Repeats
from tilt.orchestrator.faults import Faults
from tilt.orchestrator.headers import Admission, Presented, read_headers
from tilt.orchestrator.intake import Intake, Received
from tilt.orchestrator.journal import Journal
from tilt.orchestrator.ledger import Account, Kind, Ledger, SeenNonces
from tilt.orchestrator.oddities import Oddities
from tilt.orchestrator.offer import Offer
from tilt.orchestrator.quotes import Asked, Quotes
from tilt.orchestrator.runners import Runners
from tilt.orchestrator.sessions import Sessions
from tilt.orchestrator.store import Store
from tilt.orchestrator.terms import Price
from tilt.orchestrator.winners import Winners


@dataclass(slots=True, kw_only=True)
class Orchestrator:
    url: str
    tls_url: str | None  # none without a TLS port
    view: ChainView
    quotes: Quotes
    offer: Offer
    runners: Runners
    ledger: Ledger
    sessions: Sessions
    nonces: SeenNonces
    winners: Winners
    journal: Journal
    intake: Intake
    store: Store
    oddities: Oddities
    clock: Callable[[], float]
    faults: Faults
    repeats: Repeats
    is_capped: bool = False  # "OrchestratorCapped" to everybody

    def read(self, payment_header: str, segment_header: str) -> Presented:
        admission = Admission(
            tokens=self.quotes.tokens,
            ours=self.offer.requirements(),
            now=self.clock(),
            is_capped=self.is_capped,
        )
        return read_headers(payment_header, segment_header, admission)

    async def quote(
        self, sender: Address, session_id: str, *, price: Price, origin: str
    ) -> pb.OrchestratorInfo:
        asked = Asked(sender=sender, session_id=session_id, price=price, origin=origin)
        return self.quotes.orchestrator_info(
            asked,
            head=self.view.head,
            funds=await self.view.funds(sender),
            pending=self.winners.pending(sender),
        )

    async def credit(self, received: Received) -> Account:
        """Take a payment's tickets; raises RefusedError, though some of them may count."""
        head = self.view.head
        funds = await self.view.funds(received.sender)
        self.intake.process(received, head=head, funds=funds)
        self.journal.counters.payments_accepted += 1
        return self.ledger.open(received.sender, received.manifest_id, received.kind)

    async def credit_and_quote(
        self, presented: Presented, *, manifest_id: str, kind: Kind, origin: str
    ) -> pb.OrchestratorInfo:
        """Take a payment and quote anew under the token that came with it.

        The quote comes first, as in go-livepeer: a sender that gets none is not credited either.
        """
        session_id = presented.auth_token.session_id
        price = self.fixed_price(presented.sender, session_id) or self.offer.price(presented.capabilities)
        info = await self.quote(presented.sender, session_id, price=price, origin=origin)
        info.auth_token.CopyFrom(presented.auth_token)
        received = Received(
            payment=presented.payment, sender=presented.sender, manifest_id=manifest_id, kind=kind
        )
        await self.credit(received)
        return self.oddities.applied(info, "result", presented.sender)

    def fixed_price(self, sender: Address, manifest_id: str) -> Price | None:
        """Tell the price that the first payment of a manifest fixed, if there was one."""
        account = self.ledger.find(sender, manifest_id)
        if account is None or account.price is None:
            return None
        return Price.of(account.price)

    async def look_at_chain(self) -> None:
        await self.view.refresh()
        if self.view.last_head is not None:
            self.nonces.forget_expired(self.view.last_head.l1_block)
            self.store.forget_expired_nonces(self.view.last_head.l1_block)

    def renew_ticket_secret(self) -> None:
        """Forget what all params quoted so far were made with."""
        self.quotes.ticket_secret = self.store.renew_secret("tickets")

    def restart_without_state(self) -> None:
        """Forget what go-livepeer forgets when it is restarted: secrets, balances, nonces, sessions."""
        self.renew_ticket_secret()
        self.quotes.tokens = AuthTokens(self.store.renew_secret("auth_tokens"))
        for session in list(self.sessions.active.values()):
            self.sessions.release(session, "restarted by a test")
        self.ledger.forget()
        self.nonces.forget()
        self.store.forget_nonces()
