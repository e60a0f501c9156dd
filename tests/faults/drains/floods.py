"""Calls for a hundred tickets at the cap, at the cap of one ticket, and one wei beyond, in parallel.

He hopes that many calls at the same moment pass a limit which each of them alone respects. Budget
and pool are changed in one commit with each grant, so the sum of all is the account's limit; the caps
on one ticket and one call hold to the wei.
"""

from dataclasses import replace

from tests.acceptance.system import System
from tests.faults.drains.accomplice import FIRST_SECONDS, TICKET_EV_WEI, Accomplice, Quote, request
from tests.faults.drains.attacker import Attacker, ceil, ev_of, spend_bounds
from tests.faults.drains.bound import Bound, Drain, none_of
from tests.faults.drains.caps import TICKET_EV_MAX, TICKETS_MAX, TOTAL_EV_MAX
from tests.faults.world import SCALE

FLOODS = 10 * SCALE  # so many fit into his limit
CALLS = 4 * FLOODS


async def run(system: System) -> Drain:
    limit = FLOODS * TOTAL_EV_MAX
    accomplice = await Accomplice.meet(system)
    many = await Attacker.enter(system, accomplice, limit=limit)
    dear = await Attacker.enter(system, accomplice, limit=limit)

    beyond = await many.rush(map(request, _beyond(accomplice)))
    await many.rush(request(accomplice.hundred()) for _ in range(CALLS))
    await dear.rush(request(accomplice.dearest()) for _ in range(CALLS))

    dearest_call = max(batch.ev for batch in many.loot.batches.values())
    dearest_ticket = max(map(ev_of, dear.loot.tickets))
    return Drain(
        f"{CALLS} calls for 100 tickets: {many.answers}; {CALLS} for the dearest: {dear.answers}",
        [
            Bound("EV of all tickets, wei", ceil(many.loot.ev), limit, limit),
            Bound("tickets of a call", many.loot.largest_batch, TICKETS_MAX, TICKETS_MAX),
            Bound("EV of a call, wei", ceil(dearest_call), TOTAL_EV_MAX, TOTAL_EV_MAX),
            Bound("EV of a ticket, wei", ceil(dearest_ticket), TICKET_EV_MAX, TICKET_EV_MAX),
            none_of("signed beyond a cap", sum(answer.status == 200 for answer in beyond)),
            *await spend_bounds(many, dear),
        ],
    )


def _beyond(accomplice: Accomplice) -> list[Quote]:
    """A ticket, a call and a number of tickets that are just too much."""
    hundred, dearest = accomplice.hundred(), accomplice.dearest()
    return [
        replace(dearest, face_value=dearest.face_value + 1),
        replace(hundred, face_value=hundred.face_value + 1),
        replace(hundred, price_per_unit=hundred.price_per_unit + 1),
        accomplice.quote(price_per_unit=(TICKETS_MAX + 1) * TICKET_EV_WEI // FIRST_SECONDS),
        replace(dearest, price_per_unit=TOTAL_EV_MAX // FIRST_SECONDS),
    ]
