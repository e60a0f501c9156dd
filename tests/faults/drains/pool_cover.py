"""An account whose limit is larger than the deposit signs up for all of it, as fast as it can.

He hopes that tickets are signed which the deposit cannot pay: whoever redeems first takes what others
were promised. What may still be drawn, over all accounts, is bounded by the deposit; then everybody
hears 503 until a round ends or the operator funds more, which he does in the end.
"""

import asyncio

from tests.acceptance.system import System
from tests.faults.drains.accomplice import Accomplice, request
from tests.faults.drains.attacker import Attacker, chain_is_seen, spend_bounds
from tests.faults.drains.bound import Bound, Drain, exactly
from tests.faults.world import DEPOSIT_WEI
from tilt.chain.deploy import BLOCKS_TO_FINALITY

WAVE = 100
OTHERS = 10


async def run(system: System) -> Drain:
    accomplice = await Accomplice.meet(system)
    attacker = await Attacker.enter(system, accomplice, limit=10 * DEPOSIT_WEI)
    neighbour = await Attacker.enter(system, accomplice)
    before = await _pool(system)
    room = before["cover_wei"] - before["exposure_wei"]
    more = room + before["held_wei"]  # what others hold may come back meanwhile

    signed = -1
    while len(attacker.loot.batches) > signed:
        signed = len(attacker.loot.batches)
        await attacker.rush(request(accomplice.dearest()) for _ in range(WAVE))
    bounds = await spend_bounds(attacker)
    after = await _pool(system)
    await neighbour.rush(request(accomplice.dearest()) for _ in range(OTHERS))
    await _fund(system, accomplice)

    call = next(iter(attacker.loot.batches.values())).cost
    return Drain(
        f"limit ten times the deposit; waves of {WAVE}: {attacker.answers}",
        [
            Bound("cost of the tickets in hand, wei", attacker.loot.cost, more, least=room - 2 * call),
            Bound("exposure of the pool, wei", after["exposure_wei"], after["cover_wei"]),
            exactly("503 to a neighbour meanwhile", neighbour.statuses[503], OTHERS),
            *bounds,
        ],
    )


async def _pool(system: System) -> dict[str, int]:
    answer = await system.call("GET", f"/v1/pool?payer={system.world.payers[0]}")
    return {name: int(value) for name, value in answer.json.items() if name.endswith("_wei")}


async def _fund(system: System, accomplice: Accomplice) -> None:
    key = system.world.payer_key_paths[0].read_text()
    await asyncio.to_thread(accomplice.chain.fund_deposit, key, DEPOSIT_WEI)
    await asyncio.to_thread(accomplice.chain.mine, BLOCKS_TO_FINALITY)
    await chain_is_seen(system)
