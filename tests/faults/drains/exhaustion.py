"""Memory and log: floods of refused requests, of names, of the largest bodies, and of payments of a wei.

He hopes to fill a disk or a process at no cost to him. A request that is refused stores nothing, but
once in a while a line on the timeline of a session that was paid for; names are bounded in length and
number; a process keeps a bounded number of anything. What is paid is stored: a payment costs a wei
at least, and takes a bounded number of bytes.
"""

import asyncio
import itertools
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from livepeer_gateway import lp_rpc_pb2 as pb

from tests.acceptance.system import System
from tests.faults.drains.accomplice import CERTAIN, FIRST_SECONDS, TICKET_EV_WEI, Accomplice, Quote, request
from tests.faults.drains.attacker import Attacker, number_in, spend_bounds, stored_events
from tests.faults.drains.bound import Bound, Drain, none_of
from tests.faults.drains.caps import MANIFEST_BYTES_MAX, MANIFESTS_MAX, TICKETS_MAX
from tests.faults.world import SCALE

REFUSED = 1000 * SCALE
NOTED = 16  # eight reasons at most; each is noted at once, and again after ten seconds
BUDGET_EVENTS = 3  # opened, limit set, limit reached
NAMES = 50
LARGE = 400 * SCALE
CHEAP = 100 * SCALE
BYTES_MAX = 16 * 1024  # that a payment may take in the log
MEMORY_MAX = (24 + 8 * SCALE) * 2**20  # what is under way, and 20 kB a session
INT64_MAX = 2**63 - 1
PROCESSES = ("edge", "signer", "quota")
LONG = "\U0001f3ab" * (MANIFEST_BYTES_MAX // 4)
SIZE = "SELECT coalesce(sum(length(state)), 0) FROM signer.signer_events"
BUDGET = "SELECT count(*) FROM quota.quota_events WHERE originator_id = %s"


async def run(system: System) -> Drain:
    accomplice = await Accomplice.meet(system)
    attacker = await Attacker.enter(system, accomplice)
    poor = await Attacker.enter(system, accomplice, limit=0)
    state = (await attacker.pay(accomplice.quote(), ManifestID="m")).state

    alone = await _events_of(attacker, _refused(accomplice, None))
    in_session = await _events_of(attacker, _refused(accomplice, state))
    await poor.rush(request(accomplice.quote()) for _ in range(REFUSED))
    names = await _name(attacker)
    before = await asyncio.to_thread(_memory, system)
    await attacker.rush(_large(accomplice))
    grown = await asyncio.to_thread(_memory, system) - before
    size = await number_in(system, SIZE)
    cheap = await attacker.rush(request(_cheap(accomplice, TICKETS_MAX)) for _ in range(CHEAP))
    size = await number_in(system, SIZE) - size

    paid = sum(answer.status == 200 for answer in cheap)
    return Drain(
        f"{attacker.answers}; without a budget {poor.answers}",
        [
            none_of(f"events of {REFUSED} refused calls", alone),
            Bound(f"events of {REFUSED} refused calls in a session", in_session, NOTED, least=1),
            Bound(f"events of {REFUSED} refused asks", await _budget_events(poor), BUDGET_EVENTS, least=1),
            Bound(f"of {NAMES} ManifestIDs in a session, taken", names, MANIFESTS_MAX, MANIFESTS_MAX),
            Bound(f"memory grown by {LARGE} of the largest bodies, bytes", max(0, grown), MEMORY_MAX),
            Bound("bytes stored for 100 tickets at a wei", size // paid, BYTES_MAX, least=65 * TICKETS_MAX),
            *await spend_bounds(attacker),
        ],
    )


def _refused(accomplice: Accomplice, state: Any) -> Iterator[bytes]:
    """Requests that are refused for every reason there is, over and over; none is like another."""
    rounds = itertools.chain.from_iterable(_kinds(accomplice, state) for _ in itertools.count())
    return itertools.islice(rounds, REFUSED)


def _kinds(accomplice: Accomplice, state: Any) -> Iterator[bytes]:
    quote = accomplice.quote
    price = {"price": 1, "currency": "wei", "unit": "seconds"}
    wrong: tuple[dict[str, Any], ...] = (
        *({"price_per_unit": -1}, {"recipient": bytes(20)}, {"win_prob": CERTAIN}, {"face_value": 0}),
        *({"expiration_block": accomplice.head}, {"expiration_block": 2**200}, {"orchestrator": b"x"}),
        {"price_per_unit": INT64_MAX},
    )
    for changes in wrong:
        yield request(quote(**changes), state, ManifestID="m")
    yield request(accomplice.dearest(price_per_unit=2 * 10**12), state, ManifestID="m")
    yield request(quote(), state, ManifestID="m", maxPrice=price)
    yield request(quote(), state, ManifestID="m", type="forever")
    yield request(quote(), state, ManifestID=LONG + "!")
    yield request(quote(), {"State": "e30=", "Sig": "AAAA"}, ManifestID="m")
    yield request("", state)


async def _events_of(attacker: Attacker, bodies: Iterator[bytes]) -> int:
    before = await stored_events(attacker.system)
    answers = await attacker.rush(bodies)
    assert not any(answer.status == 200 for answer in answers)
    return await stored_events(attacker.system) - before


async def _budget_events(attacker: Attacker) -> int:
    budget = uuid5(NAMESPACE_URL, f"/accounts/{attacker.account.account_id}/budget")
    return await number_in(attacker.system, BUDGET, budget)


async def _name(attacker: Attacker) -> int:
    """One session under as many long names as it takes."""
    before = len(attacker.loot.credentials)
    dear = {"price_per_unit": 2 * TICKET_EV_WEI}  # each call has tickets due
    state = (await attacker.pay(attacker.quote(**dear), ManifestID=LONG)).state
    for number in range(NAMES):
        await attacker.ask(attacker.quote(**dear), state, ManifestID=f"{number}{LONG[1:]}")
    return len(attacker.loot.credentials) - before


def _large(accomplice: Accomplice) -> Iterator[bytes]:
    """Paid requests as large as they may be, each with other capabilities and another name."""
    for number in range(LARGE):
        asked = pb.Capabilities(bitstring=[2**63 + number + n for n in range(3000)])
        yield request(
            _cheap(accomplice, tickets=1),
            ManifestID=f"{number}{LONG[1:]}",
            capabilities=b64encode(asked.SerializeToString()).decode(),
        )


def _cheap(accomplice: Accomplice, tickets: int) -> Quote:
    """So many tickets for a wei, at the lowest price that there is."""
    odds = CERTAIN * FIRST_SECONDS // (INT64_MAX * tickets) + 1
    return accomplice.quote(face_value=1, win_prob=odds, price_per_unit=1, pixels_per_unit=INT64_MAX)


def _memory(system: System) -> int:
    """What our processes have in use, in bytes."""
    pids = ",".join(str(system.supervisor.pid(name)) for name in PROCESSES)
    listed = subprocess.run(["ps", "-o", "rss=", "-p", pids], capture_output=True, text=True, check=True)
    return 1024 * sum(map(int, listed.stdout.split()))
