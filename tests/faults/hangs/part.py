"""Each dependency and each of our processes hangs under load: `python -m tests.faults hangs`.

What a hang is to those who wait: SIGSTOP for HALT_SECONDS (60), then SIGCONT. Prints a row a halt.
"""

import asyncio
import os
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import cycle, islice

from tests.acceptance.system import OPTIONS
from tests.faults.hangs.halts import HEADER, Halt, Outcome, check_books, load, matrix, try_halt
from tests.faults.part import Findings
from tests.faults.world import running_world
from tilt.supervisor import Supervisor
from tilt.world import World

UNIT = "halts"
AMOUNT = 18
HALT_SECONDS = float(os.environ.get("HALT_SECONDS", "60"))


def run(seed: int, amount: int) -> Iterator[Findings]:
    """In an order of the seed's, all before any comes again; ONLY names some, by semicolons."""
    with running_world(World, replace(OPTIONS, replicas=2)) as (world, supervisor):
        halts = matrix(world)
        if wanted := os.environ.get("ONLY"):
            halts = [halt for halt in halts if halt.name in wanted.split(";")]
        else:
            random.Random(seed).shuffle(halts)
        sys.stderr.write(HEADER + "\n")
        for halt in islice(cycle(halts), amount):
            yield asyncio.run(chunk(world, supervisor, [halt], HALT_SECONDS))


async def chunk(world: World, supervisor: Supervisor, halts: Sequence[Halt], seconds: float) -> Findings:
    """Some halts under one load, and the books after them."""
    counted: Counter[str] = Counter()
    violations: list[str] = []
    async with load(world, supervisor) as running:
        for halt in halts:
            outcome = await try_halt(running, halt, seconds)
            sys.stderr.write(outcome.row() + "\n")
            counted += _count(outcome)
            violations += outcome.violations
        violations += await check_books(running)
        counted["receipts"] += len(running.receipts)
    return Findings(len(halts), counted, violations)


def _count(outcome: Outcome) -> Counter[str]:
    return Counter(
        {
            "seconds halted": round(outcome.seconds),
            "answers": sum(outcome.statuses.values()),
            "refused with Retry-After": outcome.statuses[503] + outcome.statuses[429],
            "payments while halted": outcome.payments,
            "requests to a halted edge": outcome.unanswered,
        }
    )
