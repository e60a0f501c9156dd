"""The orchestrator: quotes, sessions and payments of one recipient with one runner."""

from collections.abc import Callable
from dataclasses import dataclass

from contracts.livepeer import payments_pb2 as pb
from tilt.orchestrator.addresses import Address
from tilt.orchestrator.auth_tokens import new_session_id
from tilt.orchestrator.chain_view import ChainView
from tilt.orchestrator.headers import Presented, read_headers
from tilt.orchestrator.intake import Intake
from tilt.orchestrator.journal import Journal
from tilt.orchestrator.ledger import Ledger, SeenNonces
from tilt.orchestrator.quotes import Quotes
from tilt.orchestrator.refusals import RefusedError
from tilt.orchestrator.sessions import Sessions
from tilt.orchestrator.store import Store
from tilt.orchestrator.winners import Winners


@dataclass(slots=True, kw_only=True)
class Orchestrator:
    view: ChainView
    quotes: Quotes
    ledger: Ledger
    sessions: Sessions
    nonces: SeenNonces
    winners: Winners
    journal: Journal
    intake: Intake
    store: Store
    clock: Callable[[], float]

    async def challenge(self, sender: Address) -> tuple[str, pb.OrchestratorInfo]:
        """Quote for a session that does not exist yet; its id comes with the quote."""
        session_id = new_session_id()
        return session_id, await self._quote(sender, session_id)

    async def refresh(self, sender: Address, session_id: str) -> pb.OrchestratorInfo:
        self.sessions.check_is_active(session_id)
        return await self._quote(sender, session_id)

    async def reserve(self, payment_header: str, segment_header: str) -> str:
        """Open the session a quote was made for; an unpaid one is closed again."""
        presented = self._read(payment_header, segment_header)
        session_id = presented.auth_token.session_id
        if presented.manifest_id != session_id:
            raise RefusedError(403, "mismatched manifest and auth token")
        self.sessions.reserve(session_id, presented.sender, self.clock())
        try:
            await self._process(presented)
        except RefusedError as refusal:
            self.sessions.release(session_id, refusal.text)
            raise
        return session_id

    async def pay(self, session_id: str, payment_header: str, segment_header: str) -> pb.PaymentResult:
        self.sessions.check_is_active(session_id)
        presented = self._read(payment_header, segment_header)
        if presented.manifest_id != session_id:
            raise RefusedError(403, "mismatched manifest and session")
        await self._process(presented)
        info = pb.OrchestratorInfo(auth_token=presented.auth_token)
        info.MergeFrom(await self._fresh_params(presented.sender, session_id))
        return pb.PaymentResult(info=info)

    async def look_at_chain(self) -> None:
        await self.view.refresh()
        if self.view.last_head is not None:
            self.nonces.forget_expired(self.view.last_head.l1_block)
            self.store.forget_expired_nonces(self.view.last_head.l1_block)

    def renew_ticket_secret(self) -> None:
        self.quotes.renew_ticket_secret()
        self.store.replace_secret("tickets", self.quotes.ticket_secret)

    def _read(self, payment_header: str, segment_header: str) -> Presented:
        return read_headers(payment_header, segment_header, tokens=self.quotes.tokens, now=self.clock())

    async def _process(self, presented: Presented) -> None:
        head = self.view.head
        funds = await self.view.funds(presented.sender)
        self.intake.process(presented, head=head, funds=funds)
        self.journal.payment_accepted()

    async def _quote(self, sender: Address, session_id: str) -> pb.OrchestratorInfo:
        return self.quotes.orchestrator_info(
            sender,
            session_id,
            head=self.view.head,
            funds=await self.view.funds(sender),
            pending=self.winners.pending(sender),
        )

    async def _fresh_params(self, sender: Address, session_id: str) -> pb.OrchestratorInfo:
        """Quote anew after a payment, which stands even where no new quote is possible."""
        try:
            quote = await self._quote(sender, session_id)
        except RefusedError:
            return pb.OrchestratorInfo()
        quote.ClearField("auth_token")
        return quote
