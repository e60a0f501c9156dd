"""Recipients that are not on the signer's list, alone and slipped into a running session.

He hopes to be paid by his own tickets at an address that nobody registered or checked. The recipient
in the params decides, not the orchestrator who quotes: 403, and nothing of it is stored.
"""

import secrets

from tests.acceptance.system import System
from tests.faults.drains.accomplice import Accomplice, request
from tests.faults.drains.attacker import Attacker, spend_bounds, stored_events
from tests.faults.drains.bound import Drain, exactly, none_of
from tests.faults.world import SCALE

STRANGERS = 60 * SCALE


async def run(system: System) -> Drain:
    accomplice = await Accomplice.meet(system)
    attacker = await Attacker.enter(system, accomplice)
    listed = accomplice.address
    payers = [bytes.fromhex(payer.removeprefix("0x")) for payer in system.world.payers]
    neighbours = [(int.from_bytes(listed) ^ 1 << bit).to_bytes(20) for bit in (0, 80, 159)]
    strangers = [secrets.token_bytes(20) for _ in range(STRANGERS)]
    recipients = [bytes(20), b"\xff" * 20, *payers, *neighbours, *strangers]
    state = (await attacker.pay(accomplice.quote(), ManifestID="m")).state
    before, signed = await stored_events(system), len(attacker.loot.tickets)

    alone = await attacker.rush(request(accomplice.quote(recipient=recipient)) for recipient in recipients)
    stored = await stored_events(system) - before
    slipped = await attacker.rush(
        request(accomplice.quote(recipient=recipient), state, ManifestID="m") for recipient in recipients
    )
    tickets = len(attacker.loot.tickets) - signed
    another = await attacker.ask(accomplice.quote(orchestrator=strangers[0]))

    statuses = [answer.status for answer in (*alone, *slipped)]
    return Drain(
        f"{len(recipients)} recipients, alone and in a session: {attacker.answers}",
        [
            none_of("tickets to them", tickets),
            exactly("answers 403", statuses.count(403), len(statuses)),
            none_of("events stored", stored),
            exactly("the listed recipient, whoever quotes: status", another.status, 200),
            *await spend_bounds(attacker),
        ],
    )
