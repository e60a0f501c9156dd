"""The attacker: an account of ours that means no good, and what it has in hand at each moment."""

import asyncio
from base64 import b64decode
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, LiteralString, Self

import psycopg
from eth_utils.address import to_checksum_address
from livepeer_gateway import lp_rpc_pb2 as pb

from tests.acceptance.signer_log import Log, TicketId
from tests.acceptance.system import Account, Answer, System, until
from tests.acceptance.wire import SIGNER, Paid
from tests.faults.drains.accomplice import CERTAIN, Accomplice, Quote, request
from tests.faults.drains.bound import Bound, none_of
from tests.faults.drains.caps import AHEAD_MAX_BLOCKS
from tests.faults.drains.messages import signer_of, ticket_digest
from tests.faults.world import SCALE
from tilt.chain.local_chain import Ticket

LIMIT_WEI = 2 * 10**14 * SCALE
AT_ONCE = 32
SETTLE_SECONDS = 20.0
# Sessions close by themselves, and one that never opened is named then.
REQUESTED = """
SELECT count(*) FROM signer.signer_events
WHERE topic NOT IN ('signer.session_named', 'signer.session_closed')
"""
NOT_ANSWERED = "1"  # seconds to wait, after a call that took too long; quota asks for more


@dataclass(frozen=True)
class Batch:
    """The tickets of one reply, each checked: the payer's key signed exactly this."""

    tickets: tuple[Ticket, ...]
    signatures: tuple[bytes, ...]

    @classmethod
    def of(cls, paid: Paid, payer: str) -> Self:
        payment = paid.message
        params, expiration = payment.ticket_params, payment.expiration_params
        tickets = tuple(
            Ticket(
                recipient=to_checksum_address(params.recipient),
                sender=to_checksum_address(payment.sender),
                face_value=int.from_bytes(params.face_value),
                win_prob=int.from_bytes(params.win_prob),
                sender_nonce=one.sender_nonce,
                recipient_rand_hash=params.recipient_rand_hash,
                aux_data=expiration.creation_round.to_bytes(32) + expiration.creation_round_block_hash,
            )
            for one in payment.ticket_sender_params
        )
        signatures = tuple(one.sig for one in payment.ticket_sender_params)
        for ticket, signature in zip(tickets, signatures, strict=True):
            assert signer_of(ticket_digest(ticket), signature) == payer
        return cls(tickets, signatures)

    @property
    def first(self) -> tuple[bytes, int]:
        return self.tickets[0].recipient_rand_hash, self.tickets[0].sender_nonce

    @property
    def ev(self) -> Fraction:
        return sum((ev_of(ticket) for ticket in self.tickets), Fraction(0))

    @property
    def cost(self) -> int:
        """What it has to cost the account: its EV, rounded up once."""
        return ceil(self.ev)


def ev_of(ticket: Ticket) -> Fraction:
    return Fraction(ticket.face_value * ticket.win_prob, CERTAIN)


def ceil(amount: Fraction) -> int:
    return -(-amount.numerator // amount.denominator)


@dataclass
class Loot:
    """All that was received; a batch that came twice is one."""

    payer: str
    batches: dict[tuple[bytes, int], Batch] = field(default_factory=dict)
    credentials: dict[bytes, bytes] = field(default_factory=dict)  # signatures by ManifestID
    states: list[Any] = field(default_factory=list)
    signed_differently: int = 0  # second, other signatures for what was signed before

    def take(self, paid: Paid) -> None:
        batch = Batch.of(paid, self.payer)
        self.signed_differently += self.batches.setdefault(batch.first, batch) != batch
        segment = pb.SegData.FromString(b64decode(paid.credentials))
        self.signed_differently += self.credentials.setdefault(segment.manifestId, segment.sig) != segment.sig
        self.states.append(paid.state)

    @property
    def tickets(self) -> list[Ticket]:
        return [ticket for batch in self.batches.values() for ticket in batch.tickets]

    @property
    def signatures(self) -> list[bytes]:
        return [signature for batch in self.batches.values() for signature in batch.signatures]

    def by_id(self) -> dict[TicketId, bytes]:
        """Each ticket's signature, by rand hash and nonce."""
        pairs = zip(self.tickets, self.signatures, strict=True)
        return {(one.recipient_rand_hash.hex(), one.sender_nonce): signature for one, signature in pairs}

    @property
    def cost(self) -> int:
        return sum(batch.cost for batch in self.batches.values())

    @property
    def ev(self) -> Fraction:
        return sum((batch.ev for batch in self.batches.values()), Fraction(0))

    @property
    def highest_nonce(self) -> int:
        return max((ticket.sender_nonce for ticket in self.tickets), default=0)

    @property
    def largest_batch(self) -> int:
        return max((len(batch.tickets) for batch in self.batches.values()), default=0)

    @property
    def doubled(self) -> int:
        """Tickets whose nonce was handed out before."""
        nonces = Counter((ticket.recipient_rand_hash, ticket.sender_nonce) for ticket in self.tickets)
        return sum(nonces.values()) - len(nonces)


class Attacker:
    def __init__(self, system: System, account: Account, accomplice: Accomplice, limit: int) -> None:
        self.system = system
        self.account = account
        self.accomplice = accomplice
        self.limit = limit
        self.loot = Loot(system.world.payers[0])
        self.statuses: Counter[int] = Counter()
        self.unanswered = 0  # what was signed for these calls, if anything, he never got

    @classmethod
    async def enter(
        cls, system: System, accomplice: Accomplice | None = None, *, limit: int = LIMIT_WEI
    ) -> Self:
        """Open an account with this spend limit."""
        account = await system.open_account(limit)
        return cls(system, account, accomplice or await Accomplice.meet(system), limit)

    def quote(self, **changes: Any) -> Quote:
        return self.accomplice.quote(**changes)

    async def send(self, body: bytes, **headers: str) -> Answer:
        """Ask for a payment, and keep what comes."""
        shown = {**self.account.headers, "Content-Type": "application/json", **headers}
        answer = await self.system.send("POST", SIGNER, data=body, headers=shown)
        self.statuses[answer.status] += 1
        self.unanswered += answer.status == 503 and answer.headers["Retry-After"] == NOT_ANSWERED
        if answer.status == 200:
            self.loot.take(Paid.read(answer))
        return answer

    async def ask(self, quote: Quote | str, state: Any = None, **changes: Any) -> Answer:
        return await self.send(request(quote, state, **changes))

    async def pay(self, quote: Quote, state: Any = None, **changes: Any) -> Paid:
        return Paid.read(await self.ask(quote, state, **changes))

    async def rush(self, bodies: Iterable[bytes]) -> list[Answer]:
        """Ask for many payments, AT_ONCE at the same time."""
        room = asyncio.Semaphore(AT_ONCE)

        async def one(body: bytes) -> Answer:
            async with room:
                return await self.send(body)

        return await asyncio.gather(*(one(body) for body in bodies))

    @property
    def answers(self) -> str:
        """How the calls were answered, in words."""
        return ", ".join(f"{count} x {status}" for status, count in sorted(self.statuses.items()))

    # What the system says

    async def log(self) -> Log:
        return (await self.system.log()).of(self.account.account_id)

    async def settled(self) -> dict[str, Any]:
        """The account's limits, once quota has heard of all that the signer has on disk."""

        async def heard() -> dict[str, Any] | None:
            limits, log = await self.system.limits(self.account), await self.log()
            return limits if int(limits["spent_wei"]) == log.cost else None

        found = await until("quota has heard of everything", heard, seconds=SETTLE_SECONDS)
        assert found is not None
        return found


async def spend_bounds(*attackers: Attacker) -> list[Bound]:
    """Whatever was tried: limits hold, all that was received is charged, and no nonce came twice."""
    spent, most = 0, 0
    for attacker in attackers:
        limits = await attacker.settled()
        most = max(most, int(limits["spent_wei"]) + int(limits["held_wei"]))
        spent += int(limits["spent_wei"])
    loots = [attacker.loot for attacker in attackers]
    cost = sum(loot.cost for loot in loots)
    unanswered = sum(attacker.unanswered for attacker in attackers)
    repeated = (await attackers[0].system.log()).repeated_nonces()
    doubled = sum(loot.doubled + loot.signed_differently for loot in loots)
    return [
        Bound("spent and held, wei", most, min(attacker.limit for attacker in attackers)),
        Bound("cost of the tickets in hand = spent, wei", cost, spent, least=0 if unanswered else spent),
        none_of("nonces handed out twice", doubled + len(repeated)),
    ]


async def chain_is_seen(system: System) -> None:
    """Wait until the signer sees the chain as it is now, so that it pays under fresh params."""
    customer = await Attacker.enter(system)
    furthest = customer.accomplice.head + AHEAD_MAX_BLOCKS  # too far for who has not seen the last block

    async def paid() -> bool:
        quote = customer.quote(expiration_block=furthest)
        return (await customer.ask(quote, ManifestID="m")).status == 200

    await until("the signer sees this chain", paid, seconds=SETTLE_SECONDS)


async def stored_events(system: System) -> int:
    """Count what requests have left in the signer's store."""
    return await number_in(system, REQUESTED)


async def number_in(system: System, query: LiteralString, *values: object) -> int:
    """What a query of one number says, past all code of the services."""
    return await asyncio.to_thread(_number_in, system.world.dsn(), query, values)


def _number_in(dsn: str, query: LiteralString, values: tuple[object, ...]) -> int:
    with psycopg.connect(dsn, connect_timeout=5) as connection:
        row = connection.execute(query, values).fetchone()
    assert row is not None
    return int(row[0])
