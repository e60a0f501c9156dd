"""A new session with each call: no state, no ManifestID, fresh params, hundreds of calls at once.

He hopes that a session which never comes a second time is never charged: go-livepeer signs at least
one ticket for whoever comes without a state. All his tickets are nearly certain winners, and he
redeems each of them at the TicketBroker. The account's spend limit bounds what he gets, on our books
and on the chain, to the wei.
"""

import asyncio

from tests.acceptance.system import System
from tests.faults.drains.accomplice import NEARLY_CERTAIN, request
from tests.faults.drains.attacker import Attacker, chain_is_seen, spend_bounds
from tests.faults.drains.bound import Bound, Drain, exactly
from tests.faults.world import SCALE

FACE_VALUE_WEI = 10**12
TICKETS = 300 * SCALE  # his limit is worth so many
CALLS = 400 * SCALE


async def run(system: System) -> Drain:
    limit = TICKETS * FACE_VALUE_WEI
    attacker = await Attacker.enter(system, limit=limit)
    quotes = [
        attacker.quote(face_value=FACE_VALUE_WEI, win_prob=NEARLY_CERTAIN, price_per_unit=1)
        for _ in range(CALLS)
    ]

    await attacker.rush(request(quote) for quote in quotes)
    bounds = await spend_bounds(attacker)
    rands = {quote.rand_hash: quote.rand for quote in quotes}
    lost = await asyncio.to_thread(_redeem, attacker, rands)
    await chain_is_seen(system)

    return Drain(
        f"{CALLS} first calls, {attacker.answers}; all winners redeemed",
        [
            Bound("tickets", len(attacker.loot.tickets), TICKETS, least=TICKETS - attacker.unanswered),
            *bounds,
            exactly("deposit lost on the chain, wei", lost, attacker.loot.cost),
        ],
    )


def _redeem(attacker: Attacker, rands: dict[bytes, int]) -> int:
    """Redeem all there is; how much the deposit fell."""
    accomplice, loot = attacker.accomplice, attacker.loot
    before = accomplice.deposit(loot.payer)
    accomplice.redeem(
        [
            (ticket, signature, rands[ticket.recipient_rand_hash])
            for ticket, signature in zip(loot.tickets, loot.signatures, strict=True)
        ]
    )
    return before - accomplice.deposit(loot.payer)
