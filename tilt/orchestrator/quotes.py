"""Quotes: ticket params bound to a sender and a price, at a face value its funds can stand (§7.1)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

from contracts.livepeer import payments_pb2 as pb
from tilt.orchestrator.addresses import Address
from tilt.orchestrator.auth_tokens import AuthTokens
from tilt.orchestrator.chain import Funds, Head
from tilt.orchestrator.messages import decode_quoted_params, encode_params
from tilt.orchestrator.refusals import RefusedError
from tilt.orchestrator.terms import Price, Terms
from tilt.orchestrator.tickets import TicketParams, Wei, issue, rand_hash, recipient_rand, win_prob_for


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Who asks for a quote, for which session, at which price, and at which of our addresses."""

    sender: Address
    session_id: str
    price: Price
    origin: str


@dataclass(slots=True, kw_only=True)
class Quotes:
    recipient: Address
    terms: Terms
    ticket_secret: bytes = field(repr=False)
    tokens: AuthTokens
    clock: Callable[[], float]

    def orchestrator_info(
        self, asked: Asked, *, head: Head, funds: Funds, pending: Wei
    ) -> pb.OrchestratorInfo:
        params = self.ticket_params(asked, head=head, funds=funds, pending=pending)
        expires_at = int(self.clock()) + self.terms.token_life_seconds
        return pb.OrchestratorInfo(
            transcoder=asked.origin,
            ticket_params=encode_params(params),
            price_info=asked.price.message(),
            address=self.recipient,
            auth_token=self.tokens.issue(asked.session_id, expires_at=expires_at),
        )

    def ticket_params(self, asked: Asked, *, head: Head, funds: Funds, pending: Wei) -> TicketParams:
        face_value = Wei(0)  # what is free needs no tickets
        if asked.price.price_per_unit:
            face_value = self._face_value(max_float(funds, head.pool_size, pending))
        params = TicketParams(
            recipient=self.recipient,
            face_value=face_value,
            win_prob=win_prob_for(self.terms.ticket_ev, face_value),
            recipient_rand_hash=b"",
            seed=0,
            expiration_block=head.l1_block + self.terms.params_life_blocks,
            creation_round=head.creation_round,
            creation_round_block_hash=head.creation_round_block_hash,
        )
        return issue(params, secret=self.ticket_secret, sender=asked.sender, price=asked.price.fraction)

    def seal(self, info: pb.OrchestratorInfo, sender: Address) -> None:
        """Make a quote that was changed our own again, so that we would honour its tickets.

        Raises RefusedError if the change leaves nothing that could be honoured.
        """
        params = decode_quoted_params(info.ticket_params, info.ticket_params.expiration_params)
        if info.price_info.pixels_per_unit <= 0:
            raise RefusedError(400, "no price")
        price = Fraction(info.price_info.price_per_unit, info.price_info.pixels_per_unit)
        rand = recipient_rand(params, secret=self.ticket_secret, sender=sender, price=price)
        info.ticket_params.recipient_rand_hash = rand_hash(rand)

    def _face_value(self, ceiling: Wei) -> Wei:
        face_value = min(self.terms.face_value, ceiling)
        if face_value < self.terms.ticket_ev:
            raise RefusedError(500, "insufficient sender reserve")
        return face_value


def max_float(funds: Funds, pool_size: int, pending: Wei) -> Wei:
    """How much a sender could surely pay, next to winners that wait for redemption."""
    share = funds.reserve_share(pool_size)
    if funds.deposit >= 3 * pending:
        return share
    return Wei(share - pending)
