"""Job types mixed: a session that changes its type, tickets that shrink, all pixels there are.

He hopes that a type with other rules lets a session catch up hundreds of tickets in one call, or that
a product of pixels and price passes 64 bits. A session keeps its type; whatever is due, a call signs
a hundred tickets at most.
"""

from itertools import permutations, product
from typing import Any

from tests.acceptance.system import System
from tests.faults.drains.accomplice import CERTAIN, TICKET_EV_WEI, Accomplice, Quote, request
from tests.faults.drains.attacker import Attacker, spend_bounds
from tests.faults.drains.bound import Bound, Drain, exactly, none_of
from tests.faults.drains.caps import TICKETS_MAX

INT64 = (-(2**63), -1, 0, 1, 2**62, 2**63 - 1)
PIXELS = 10
# The units of a first payment: 10 seconds, 60 seconds in pixels, a call, and what is told.
UNITS = {"live": 10, "lv2v": 60 * 1280 * 720 * 30, "fixed": 1, "": PIXELS}
JUNK = ("LIVE", " live", "live\0", "lv2v ", "forever", "fixed\n")
CALLS = 10


async def run(system: System) -> Drain:
    accomplice = await Accomplice.meet(system)
    attacker = await Attacker.enter(system, accomplice)

    hundred = await attacker.ask(accomplice.hundred())
    shrunk = [await _shrunk(attacker, job) for job in UNITS]
    switched = [await _switched(attacker, *pair) for pair in permutations(UNITS, 2)]
    junk = await attacker.rush(request(accomplice.quote(), type=job, inPixels=1) for job in JUNK)
    fixed = await _fixed(attacker)
    await attacker.rush(
        request(accomplice.quote(price_per_unit=price, pixels_per_unit=pixels), type=job, inPixels=amount)
        for job, amount, price, pixels in product(UNITS, INT64, (1, 2**63 - 1), (1, 2**63 - 1))
    )

    assert hundred.status == 200
    return Drain(
        f"tickets shrunk, types switched, int64 pixels at int64 prices: {attacker.answers}",
        [
            Bound("tickets of a call", attacker.loot.largest_batch, TICKETS_MAX, TICKETS_MAX),
            exactly("thousands due, answered 400", shrunk.count(400), len(shrunk)),
            exactly("another type in a session, answered 400", switched.count(400), len(switched)),
            exactly("no type at all, answered 400", sum(answer.status == 400 for answer in junk), len(junk)),
            exactly(f"tickets of {CALLS} fixed calls", fixed, CALLS),
            none_of("5xx", sum(count for status, count in attacker.statuses.items() if status >= 500)),
            *await spend_bounds(attacker),
        ],
    )


def _quote(attacker: Attacker, job: str, ev: int = TICKET_EV_WEI) -> Quote:
    """A quote whose first payment of this type is exactly a ticket of the usual EV."""
    price = {"price_per_unit": TICKET_EV_WEI, "pixels_per_unit": UNITS[job]}
    return attacker.quote(face_value=3 * ev, win_prob=CERTAIN // 3, **price)


async def _open(attacker: Attacker, job: str) -> Any:
    return (await attacker.pay(_quote(attacker, job), **_terms(job))).state


def _terms(job: str) -> dict[str, Any]:
    return {"type": job, "inPixels": PIXELS, "ManifestID": "m"}


async def _shrunk(attacker: Attacker, job: str) -> int:
    """A session goes on with tickets worth a wei each, so that whatever is due takes many thousand."""
    state = await _open(attacker, job)
    return (await attacker.ask(_quote(attacker, job, ev=1), state, **_terms(job))).status


async def _switched(attacker: Attacker, job: str, other: str) -> int:
    state = await _open(attacker, job)
    return (await attacker.ask(_quote(attacker, other), state, **_terms(other))).status


async def _fixed(attacker: Attacker) -> int:
    """A fixed job is paid by the call, and never has a spare ticket."""
    before = len(attacker.loot.tickets)
    state = None
    for _ in range(CALLS):
        state = (await attacker.pay(_quote(attacker, "fixed"), state, **_terms("fixed"))).state
    return len(attacker.loot.tickets) - before
