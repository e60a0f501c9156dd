"""States used many times: one blob by many at once, old blobs, edited ones, those of another account.

He hopes to go back in time: to have nonces counted again, a balance restored, a batch handed out
once more for nothing. The blob is a sealed reference; what counts is the session in our store, which
each of its uses moves on, and each new batch is charged.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator
from typing import Any

from tests.acceptance.system import System
from tests.faults.drains.accomplice import TICKET_EV_WEI, Accomplice, Quote, request
from tests.faults.drains.attacker import Attacker, spend_bounds
from tests.faults.drains.bound import Bound, Drain, none_of
from tests.faults.drains.caps import NONCES_MAX, TICKETS_MAX
from tests.faults.world import SCALE

FORKS = 60 * SCALE
STEPS = 6
PRICE = 2 * TICKET_EV_WEI  # of a second, so that each call has tickets due
FIRST = 20  # tickets
MANIFEST = "forked"
EDITS: dict[str, Any] = {
    "StateID": "0" * 32,
    "PMSessionID": "0x" + "00" * 32,
    "LastUpdate": "2001-01-01T00:00:00Z",
    "OrchestratorAddress": "0x" + "00" * 20,
    "App": "",
    "AuthExpiry": 2**40,
    "SenderNonce": 0,
    "Balance": "1000000000000000000",
    "InitialPricePerUnit": 1,
    "Type": "fixed",
    "SequenceNumber": 7,
    "AuthID": "me",
}


async def run(system: System) -> Drain:
    accomplice = await Accomplice.meet(system)
    attacker = await Attacker.enter(system, accomplice)
    rival = await Attacker.enter(system, accomplice)
    quote = accomplice.quote(price_per_unit=PRICE)

    states = await _steps(attacker, quote)
    rivals = await _steps(rival, accomplice.quote(price_per_unit=PRICE))
    await attacker.rush(request(quote, states[0], ManifestID=MANIFEST, fork=n) for n in range(FORKS))
    await attacker.rush(
        request(accomplice.quote(price_per_unit=PRICE), state, ManifestID=MANIFEST, fork=n)
        for n in range(FORKS // STEPS)
        for state in states
    )
    await attacker.rush(request(quote, ManifestID=MANIFEST) for _ in range(FORKS))
    forged = await attacker.rush(
        request(quote, state, ManifestID=MANIFEST) for state in (*rivals, *_edited(states[-1], rivals[-1]))
    )

    return Drain(
        f"one blob {FORKS} times at once, {STEPS} old ones, {len(forged)} forged: {attacker.answers}",
        [
            none_of("forged states not answered 400", sum(answer.status != 400 for answer in forged)),
            Bound(
                "highest nonce",
                attacker.loot.highest_nonce,
                NONCES_MAX + TICKETS_MAX - 1,
                least=FIRST + 2 * STEPS,
            ),
            *await spend_bounds(attacker),
        ],
    )


async def _steps(attacker: Attacker, quote: Quote) -> list[Any]:
    """The states of an honest session of a few payments."""
    states = [None]
    for _ in range(STEPS):
        states.append((await attacker.pay(quote, states[-1], ManifestID=MANIFEST)).state)
    return states[1:]


def _edited(state: Any, foreign: Any) -> Iterator[Any]:
    """Blobs that are nearly ours: each field changed alone, and seals that belong to others."""
    fields = json.loads(b64decode(state["State"]))
    for name, value in EDITS.items():
        text = json.dumps({**fields, name: value}, separators=(",", ":"))
        yield {**state, "State": b64encode(text.encode()).decode()}
    yield {**state, "State": state["State"] + b64encode(b" ").decode()}
    for seal in ("", "AA==", foreign["Sig"], b64encode(bytes(32)).decode(), b64encode(bytes(65)).decode()):
        yield {**state, "Sig": seal}
    yield {"State": "", "Sig": state["Sig"]}
    yield {**foreign, "State": state["State"]}
