"""Sessions that open, take an allowance for a minute ahead, and leave; later they come back for it.

He hopes that what he holds and does not spend adds up past his limit, is lost to everybody for ever,
or can be spent by two: by whom it was given to since, and by whom it was taken from. Spent and held
together stay within the limit, whenever one looks; what nobody uses comes back after the idle time,
and whoever held it has to ask anew.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

from tests.acceptance.system import System, until
from tests.faults.drains.accomplice import TICKET_EV_WEI, Accomplice, request
from tests.faults.drains.attacker import Attacker, spend_bounds
from tests.faults.drains.bound import Bound, Drain, exactly, none_of
from tests.faults.world import IDLE_SECONDS, SCALE

TICKETS = 100 * SCALE
SESSIONS = TICKETS // 5  # near a limit a lease is but a share of what is left: these leave some
LIMIT_WEI = TICKETS * TICKET_EV_WEI
SUMS = 8
LOOK_SECONDS = 0.02


async def run(system: System) -> Drain:
    accomplice = await Accomplice.meet(system)
    attacker = await Attacker.enter(system, accomplice, limit=LIMIT_WEI)

    async with _looking(attacker) as most:
        left = await asyncio.gather(*(_open_and_leave(attacker, f"s{n}") for n in range(SESSIONS)))
        await attacker.rush(_one_ask_for_different_sums(accomplice))
        held = int((await attacker.settled())["held_wei"])
        await until("nothing is held", lambda: _holds_nothing(attacker), seconds=IDLE_SECONDS + 20)
        await attacker.rush(request(accomplice.quote()) for _ in range(TICKETS))
        returned = await attacker.rush(body for body in left if body)

    return Drain(
        f"{SESSIONS} sessions opened and left, later {TICKETS}: {attacker.answers}",
        [
            Bound("most that was spent and held at a time, wei", max(most), LIMIT_WEI, least=LIMIT_WEI),
            Bound("left behind, wei", held, LIMIT_WEI, least=TICKET_EV_WEI),
            none_of("paid to who came back", sum(answer.status == 200 for answer in returned)),
            exactly("cost of all tickets in the end, wei", attacker.loot.cost, LIMIT_WEI),
            *await spend_bounds(attacker),
        ],
    )


async def _open_and_leave(attacker: Attacker, manifest_id: str) -> bytes:
    """Pay twice: with the second payment a session is granted about a minute ahead.

    Returns what it would send next, or nothing if it holds nothing.
    """
    quote = attacker.quote()
    body = request(quote, ManifestID=manifest_id)
    for _ in range(2):
        answer = await attacker.send(body)
        if answer.status != 200:
            return b""
        body = request(quote, answer.json["state"], ManifestID=manifest_id)
    return body


def _one_ask_for_different_sums(accomplice: Accomplice) -> Iterator[bytes]:
    """First requests of one session: all are its first ask, and each would cost another sum."""
    quote = accomplice.quote()
    for times in range(1, SUMS + 1):
        yield request(replace(quote, price_per_unit=times * quote.price_per_unit), ManifestID="sums")


async def _holds_nothing(attacker: Attacker) -> bool:
    return int((await attacker.settled())["held_wei"]) == 0


@asynccontextmanager
async def _looking(attacker: Attacker) -> AsyncIterator[list[int]]:
    """Look at the account's limits all the time; what was spent and held each time."""
    seen: list[int] = []

    async def look() -> None:
        while True:
            limits = await attacker.system.limits(attacker.account)
            seen.append(int(limits["spent_wei"]) + int(limits["held_wei"]))
            await asyncio.sleep(LOOK_SECONDS)

    looking = asyncio.create_task(look())
    try:
        yield seen
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
