"""Negative, zero, tiny and huge prices, as first payments of each type and in a running session.

He hopes that a negative fee raises his balance, that a product passes 64 bits and comes out small,
or that one call signs more than a hundred tickets. Whatever he quotes, n is 100 at most, and tickets
are charged by their EV, which has nothing to do with the price.
"""

import itertools
from collections import Counter

from tests.acceptance.system import System
from tests.faults.drains.accomplice import request
from tests.faults.drains.attacker import Attacker, spend_bounds
from tests.faults.drains.bound import Bound, Drain, none_of
from tests.faults.drains.caps import TICKETS_MAX

HONEST = 10**10
INT64 = (-(2**63), 1 - 2**63, -HONEST, -1, 0, 1, 2, HONEST, 2**62, 2**63 - 1)
PRICES = tuple(itertools.product(INT64, INT64))  # per unit, and pixels of a unit
JOBS: tuple[tuple[str, int], ...] = (
    *(("live", 0), ("lv2v", 0), ("fixed", 0)),
    *(("", 1), ("", 2**63 - 1)),  # by pixels
)


async def run(system: System) -> Drain:
    attacker = await Attacker.enter(system)
    tried = list(itertools.product(PRICES, JOBS))

    answers = await attacker.rush(
        request(attacker.quote(price_per_unit=price, pixels_per_unit=pixels), type=job, inPixels=amount)
        for (price, pixels), (job, amount) in tried
    )
    state = (await attacker.pay(attacker.quote(price_per_unit=HONEST))).state
    later = await attacker.rush(
        request(attacker.quote(price_per_unit=price, pixels_per_unit=pixels), state, ManifestID="m")
        for price, pixels in PRICES
    )

    prices = [price for price, _ in tried] + list(PRICES)
    statuses = [answer.status for answer in (*answers, *later)]
    nonsense = [status for price, status in zip(prices, statuses, strict=True) if min(price) <= 0]
    dearer = [
        answer.status
        for (price, pixels), answer in zip(PRICES, later, strict=True)
        if price > HONEST * pixels > 0
    ]
    return Drain(
        f"{len(answers)} first calls, {len(later)} in a session: {attacker.answers}",
        [
            Bound("tickets of a call", attacker.loot.largest_batch, TICKETS_MAX, least=1),
            none_of("not 400, at a price of zero or less", len(nonsense) - nonsense.count(400)),
            none_of("not 481, dearer than the session began", len(dearer) - dearer.count(481)),
            none_of("5xx", sum(count for status, count in Counter(statuses).items() if status >= 500)),
            *await spend_bounds(attacker),
        ],
    )
