"""The orchestrator on the attacker's side: it quotes what he likes, and redeems what wins.

It is registered and on the signer's list, it knows the preimage of every hash it quotes, and nobody
but us reads what it writes.
"""

import asyncio
import json
import secrets
import time
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from eth_utils.crypto import keccak
from livepeer_gateway import lp_rpc_pb2 as pb

from tests.acceptance.system import System
from tests.faults.drains.caps import TICKET_EV_MAX, TICKETS_MAX, TOTAL_EV_MAX
from tilt.chain import world as chain_world
from tilt.chain.accounts import TransactionRevertedError, owner, send_as_owner
from tilt.chain.local_chain import LocalChain, Ticket

CERTAIN = 2**256 - 1  # win probabilities are counted over this
NEARLY_CERTAIN = CERTAIN - 1
TICKET_EV_WEI = 10**11
FIRST_SECONDS = 10  # that a first payment of type `live` covers
LIFE_BLOCKS = 40
TOKEN_SECONDS = 1800
REDEEMED_TOGETHER = 50  # tickets of a transaction
GAS_A_TICKET = 400_000


def new_rand() -> int:
    return secrets.randbits(256)


@dataclass(frozen=True)
class Quote:
    """An OrchestratorInfo before it is encoded; every field may be nonsense.

    As it stands a ticket is worth 10^11 wei and ten seconds cost one.
    """

    recipient: bytes
    orchestrator: bytes
    creation_round: int
    creation_round_hash: bytes
    expiration_block: int
    face_value: int = 3 * TICKET_EV_WEI
    win_prob: int = CERTAIN // 3
    price_per_unit: int = TICKET_EV_WEI // 10
    pixels_per_unit: int = 1
    rand: int = field(default_factory=new_rand)

    @property
    def rand_hash(self) -> bytes:
        return keccak(self.rand.to_bytes(32))

    def text(self) -> str:
        return b64encode(self.message().SerializeToString()).decode()

    def message(self) -> Any:
        return pb.OrchestratorInfo(
            transcoder="http://orchestrator.test",
            address=self.orchestrator,
            price_info=pb.PriceInfo(pricePerUnit=self.price_per_unit, pixelsPerUnit=self.pixels_per_unit),
            ticket_params=pb.TicketParams(
                recipient=self.recipient,
                face_value=minimal(self.face_value),
                win_prob=minimal(self.win_prob),
                recipient_rand_hash=self.rand_hash,
                seed=b"\1",
                expiration_block=minimal(self.expiration_block),
                expiration_params=pb.TicketExpirationParams(
                    creation_round=self.creation_round, creation_round_block_hash=self.creation_round_hash
                ),
            ),
            auth_token=pb.AuthToken(
                token=bytes(32), session_id="1a2b3c4d", expiration=int(time.time()) + TOKEN_SECONDS
            ),
        )


def request(quote: Quote | str, state: Any = None, **changes: Any) -> bytes:
    """The body a client sends; a quote may be encoded already, and None leaves a key out."""
    text = quote.text() if isinstance(quote, Quote) else quote
    content = {"orchestrator": text, "type": "live", "app": "demo/echo", "state": state, **changes}
    return json.dumps({key: value for key, value in content.items() if value is not None}).encode()


class Accomplice:
    def __init__(self, chain: LocalChain) -> None:
        self.chain = chain
        self.address = bytes.fromhex(chain.world.orchestrator.removeprefix("0x"))
        self.look()

    @classmethod
    async def meet(cls, system: System) -> Self:
        return await asyncio.to_thread(cls._meet, system)

    @classmethod
    def _meet(cls, system: System) -> Self:
        made = chain_world.load(system.world.chain_directory)
        assert made is not None
        return cls(LocalChain(system.world.rpc_url, made))

    def look(self) -> None:
        """See where the chain is now; quotes are made from that."""
        self.head = self.chain.web3.eth.block_number
        self.round = self.chain.current_round()

    def quote(self, **changes: Any) -> Quote:
        """A quote under fresh params."""
        terms: dict[str, Any] = {
            "recipient": self.address,
            "orchestrator": self.address,
            "creation_round": self.round.number,
            "creation_round_hash": self.round.block_hash,
            "expiration_block": self.head + LIFE_BLOCKS,
        }
        return Quote(**{**terms, **changes})

    def hundred(self, **changes: Any) -> Quote:
        """A quote for a hundred tickets, together worth exactly what a call may be."""
        ev = TOTAL_EV_MAX // TICKETS_MAX
        price = TOTAL_EV_MAX // FIRST_SECONDS
        terms = {"face_value": 3 * ev, "win_prob": CERTAIN // 3, "price_per_unit": price}
        return self.quote(**{**terms, **changes})

    def dearest(self, **changes: Any) -> Quote:
        """A quote for as many of the dearest tickets as a call may have."""
        price = TOTAL_EV_MAX // TICKET_EV_MAX * TICKET_EV_MAX // FIRST_SECONDS
        terms = {"face_value": 3 * TICKET_EV_MAX, "win_prob": CERTAIN // 3, "price_per_unit": price}
        return self.quote(**{**terms, **changes})

    def deposit(self, payer: str) -> int:
        return self.chain.sender_info(self.chain.web3.to_checksum_address(payer)).deposit

    def redeem(self, claims: Sequence[tuple[Ticket, bytes, int]]) -> None:
        """Bring tickets to the real TicketBroker, with their signatures and preimages.

        The gas is told, not estimated: the broker takes a batch also if it runs out on some of it.
        """
        web3, broker = self.chain.web3, self.chain.broker.functions
        for start in range(0, len(claims), REDEEMED_TOGETHER):
            tickets, signatures, rands = zip(*claims[start : start + REDEEMED_TOGETHER], strict=True)
            call = broker.batchRedeemWinningTickets([tuple(one) for one in tickets], signatures, rands)
            sent = call.transact({"from": owner(web3), "gas": REDEEMED_TOGETHER * GAS_A_TICKET})
            web3.eth.wait_for_transaction_receipt(sent, timeout=10, poll_latency=0.01)

    def refusal(self, ticket: Ticket, signature: bytes, rand: int) -> str:
        """What the TicketBroker says to a ticket it does not pay; empty if it paid."""
        call = self.chain.broker.functions.redeemWinningTicket(tuple(ticket), signature, rand)
        try:
            send_as_owner(self.chain.web3, call)
        except TransactionRevertedError as refused:
            return refused.reason
        return ""


def minimal(number: int) -> bytes:
    """Big-endian without leading zeros, as go-livepeer writes whole numbers."""
    return number.to_bytes((number.bit_length() + 7) // 8)
