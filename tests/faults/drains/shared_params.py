"""Many sessions of several accounts on one set of params, so all on one `recipient_rand_hash`.

He hopes for two tickets with one nonce: byte for byte the same if the rest is the same, and another
draw of the lottery if it is not. Nonces belong to the params, not to a session; other params under a
known hash are refused, and after 500 nonces everybody has to come with new ones.
"""

import asyncio
from dataclasses import replace

from tests.acceptance.system import System
from tests.faults.drains.accomplice import FIRST_SECONDS, Accomplice, Quote, request
from tests.faults.drains.attacker import Attacker, spend_bounds
from tests.faults.drains.bound import Bound, Drain, exactly, none_of
from tests.faults.drains.caps import NONCES_MAX, TICKETS_MAX
from tests.faults.world import SCALE

ACCOUNTS = 3
SESSIONS = 200 * SCALE  # of each account
TICKETS = 37  # of a call, where they are many
EV_WEI = 10**8


async def run(system: System) -> Drain:
    accomplice = await Accomplice.meet(system)
    attackers = [await Attacker.enter(system, accomplice) for _ in range(ACCOUNTS)]
    single = accomplice.quote(face_value=3 * EV_WEI, price_per_unit=1)
    many = accomplice.quote(face_value=3 * EV_WEI, price_per_unit=TICKETS * EV_WEI // FIRST_SECONDS)

    await attackers[0].pay(single, ManifestID="first")
    altered = await attackers[0].rush(map(request, _altered(single)))
    await _all_at_once(attackers, single)
    await _all_at_once(attackers, many)

    nonces = {
        quote: sorted(
            ticket.sender_nonce
            for attacker in attackers
            for ticket in attacker.loot.tickets
            if ticket.recipient_rand_hash == quote.rand_hash
        )
        for quote in (single, many)
    }
    repeated = sum(len(each) - len(set(each)) for each in nonces.values())
    return Drain(
        f"{ACCOUNTS} accounts with {SESSIONS} sessions each on two sets of params",
        [
            exactly("nonces, one a call", len(nonces[single]), NONCES_MAX),
            Bound("highest nonce", nonces[single][-1], NONCES_MAX),
            Bound(
                f"highest nonce, {TICKETS} a call", nonces[many][-1], NONCES_MAX + TICKETS_MAX - 1, NONCES_MAX
            ),
            none_of("nonces of two sessions", repeated),
            none_of("other params under the same hash", sum(answer.status == 200 for answer in altered)),
            *await spend_bounds(*attackers),
        ],
    )


async def _all_at_once(attackers: list[Attacker], quote: Quote) -> None:
    text = quote.text()
    await asyncio.gather(
        *(attacker.rush(request(text, ManifestID=f"s{n}") for n in range(SESSIONS)) for attacker in attackers)
    )


def _altered(quote: Quote) -> list[Quote]:
    """The same preimage, and one thing else that a ticket or its redemption depends on."""
    return [
        replace(quote, face_value=quote.face_value + 1),
        replace(quote, win_prob=quote.win_prob - 1),
        replace(quote, expiration_block=quote.expiration_block + 1),
        replace(quote, creation_round=quote.creation_round - 1, creation_round_hash=bytes(32)),
    ]
