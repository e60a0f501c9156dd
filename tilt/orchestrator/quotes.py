"""Quotes: ticket params bound to a sender, at a face value its funds can stand (§7.1)."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

from contracts.livepeer import payments_pb2 as pb
from tilt.orchestrator.addresses import Address
from tilt.orchestrator.auth_tokens import LIFE_SECONDS, AuthTokens
from tilt.orchestrator.chain import Funds, Head
from tilt.orchestrator.messages import encode_params
from tilt.orchestrator.refusals import RefusedError
from tilt.orchestrator.tickets import TicketParams, Wei, issue, win_prob_for

PARAMS_LIFE_BLOCKS = 40
PARAMS_LIFE_BLOCKS_MAX = 1_000
# A signer asks for new params once a token has less than 180 seconds left (§6.2).
SHORT_TOKEN_LIFE_SECONDS = 182


class UnacceptableTermsError(ValueError):
    """No signer would sign under such terms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the orchestrator asks for; every quote is made from the terms of its moment."""

    ticket_ev: Wei
    face_value: Wei
    price_per_unit: Wei
    pixels_per_unit: int = 1
    params_life_blocks: int = PARAMS_LIFE_BLOCKS
    token_life_seconds: int = LIFE_SECONDS

    def __post_init__(self) -> None:
        if not 0 < self.ticket_ev < self.face_value < 2**256:
            raise UnacceptableTermsError("face value must exceed ticket EV, and both zero")
        if not (0 < self.price_per_unit < 2**63 and 0 < self.pixels_per_unit < 2**63):
            raise UnacceptableTermsError("price and pixels per unit must be positive int64")
        if not 0 < self.params_life_blocks <= PARAMS_LIFE_BLOCKS_MAX:
            raise UnacceptableTermsError("params must live for 1 to 1000 blocks")

    @property
    def price(self) -> Fraction:
        return Fraction(self.price_per_unit, self.pixels_per_unit)


@dataclass(slots=True, kw_only=True)
class Quotes:
    recipient: Address
    url: str
    terms: Terms
    ticket_secret: bytes = field(repr=False)
    tokens: AuthTokens
    clock: Callable[[], float]

    def orchestrator_info(
        self, sender: Address, session_id: str, *, head: Head, funds: Funds, pending: Wei
    ) -> pb.OrchestratorInfo:
        params = self.ticket_params(sender, head=head, funds=funds, pending=pending)
        expires_at = int(self.clock()) + self.terms.token_life_seconds
        return pb.OrchestratorInfo(
            transcoder=self.url,
            ticket_params=encode_params(params),
            price_info=pb.PriceInfo(
                price_per_unit=self.terms.price_per_unit,
                pixels_per_unit=self.terms.pixels_per_unit,
            ),
            address=self.recipient,
            auth_token=self.tokens.issue(session_id, expires_at=expires_at),
        )

    def ticket_params(self, sender: Address, *, head: Head, funds: Funds, pending: Wei) -> TicketParams:
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
        return issue(params, secret=self.ticket_secret, sender=sender, price=self.terms.price)

    def renew_ticket_secret(self) -> None:
        """Forget the secret behind all params issued so far, as a restart without state would."""
        self.ticket_secret = secrets.token_bytes(32)

    def _face_value(self, ceiling: Wei) -> Wei:
        face_value = min(self.terms.face_value, ceiling)
        if face_value < self.terms.ticket_ev:
            raise RefusedError(402, "insufficient sender reserve")
        return face_value


def max_float(funds: Funds, pool_size: int, pending: Wei) -> Wei:
    """How much a sender could surely pay, next to winners that wait for redemption."""
    share = funds.reserve_share(pool_size)
    if funds.deposit >= 3 * pending:
        return share
    return Wei(share - pending)
