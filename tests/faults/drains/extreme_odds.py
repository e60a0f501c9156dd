"""Win probabilities and face values at both ends, and around the deposit.

He hopes for a ticket that is worth more than it costs: one that always wins, one whose EV rounds to
nothing, one whose face value is more than there is. EV of a ticket and of a call, and face value,
have caps; and the cost is the EV, rounded up.

The cap is on the expectation: one lucky winner may be as large as the deposit divided by
SIGNER_DEPOSIT_MULTIPLIER, which is 1 here.
"""

from tests.acceptance.system import System
from tests.faults.drains.accomplice import CERTAIN, request
from tests.faults.drains.attacker import Attacker, ceil, ev_of, spend_bounds
from tests.faults.drains.bound import Bound, Drain, none_of
from tests.faults.drains.caps import TICKET_EV_MAX, TOTAL_EV_MAX

PRICES = (1, 2**40)  # for one ticket; for four of the most expensive


async def run(system: System) -> Drain:
    attacker = await Attacker.enter(system)
    deposit = attacker.accomplice.deposit(attacker.loot.payer)
    faces = (0, 1, 2, TICKET_EV_MAX, deposit - 1, deposit, deposit + 1, 2**255, CERTAIN)
    tried = [(face, odds, price) for face in faces for odds in _odds(face) for price in PRICES]

    answers = await attacker.rush(
        request(attacker.quote(face_value=face, win_prob=odds, price_per_unit=price))
        for face, odds, price in tried
    )

    tickets, batches = attacker.loot.tickets, attacker.loot.batches.values()
    senseless = [
        answer.status
        for (face, odds, _), answer in zip(tried, answers, strict=True)
        if face == 0 or odds in {0, CERTAIN}
    ]
    return Drain(
        f"{len(faces)} face values with {len({odds for _, odds, _ in tried})} odds: {attacker.answers}",
        [
            Bound("EV of a ticket, wei", ceil(max(map(ev_of, tickets))), TICKET_EV_MAX, TICKET_EV_MAX),
            Bound("EV of a call, wei", ceil(max(batch.ev for batch in batches)), TOTAL_EV_MAX),
            Bound("face value, wei", max(ticket.face_value for ticket in tickets), deposit, deposit),
            none_of("signed that wins always, or never", senseless.count(200)),
            Bound("EV of all tickets, wei", ceil(attacker.loot.ev), attacker.loot.cost, 1),
            *await spend_bounds(attacker),
        ],
    )


def _odds(face: int) -> list[int]:
    """Both ends, and what makes the EV of such a ticket just the cap, or just more."""
    at_the_cap = TICKET_EV_MAX * CERTAIN // max(face, 1)
    odds = {0, 1, CERTAIN - 1, CERTAIN, at_the_cap, at_the_cap + 1}
    return sorted(one for one in odds if one <= CERTAIN)
