"""The position chain: readers of the signer's log while all that lies between is torn and falsified.

A round is a few hundred payments under some of `FAULTS`; then the line heals, and within a deadline
every reader must be at the end of the log, with exactly what the log says (`books`). All faults come
up before one comes again.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from random import Random

from tests import infra
from tests.faults.chain import books
from tests.faults.chain.bad_line import LINE_FAULTS
from tests.faults.chain.stage import Stage
from tests.faults.part import Findings
from tests.infra import Postgres
from tilt.slot import Slot

UNIT = "rounds"
AMOUNT = 300
FAULTS_PER_ROUND = 7
ROUNDS_PER_STAGE = 15  # then with new servers: the books take longer, the more is in them
SETTLE_SECONDS = 180.0
VIOLATIONS_MAX = 10  # told of one round

type Act = Callable[[Stage], Awaitable[object]]


def run(seed: int, amount: int) -> Iterator[Findings]:
    with infra.own_slot() as slot, infra.run_postgres(slot) as postgres:
        yield from rounds(postgres, slot, seed, amount)


def rounds(postgres: Postgres, slot: Slot, seed: int, amount: int) -> Iterator[Findings]:
    """The same on servers that are there; Findings after every round."""
    deck = Deck(Random(seed))
    done = 0
    while done < amount:
        many = min(ROUNDS_PER_STAGE, amount - done)
        with asyncio.Runner() as runner:
            stage = Stage(postgres, slot, Random(seed + done))
            runner.run(stage.__aenter__())
            try:
                for _ in range(many):
                    yield runner.run(_round(stage, deck))
            finally:
                runner.run(stage.__aexit__())
        done += many


class Deck:
    """Deals faults so that each comes up before one comes twice."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._cards: list[str] = []

    def deal(self, number: int) -> list[str]:
        while len(self._cards) < number:
            fresh = sorted({*LINE_FAULTS, *ACTS} - set(self._cards))
            self._random.shuffle(fresh)
            self._cards = [*self._cards, *fresh]
        dealt, self._cards = self._cards[:number], self._cards[number:]
        return dealt


async def _round(stage: Stage, deck: Deck) -> Findings:
    dealt = deck.deal(FAULTS_PER_ROUND)
    counted: Counter[str] = Counter()
    paid = stage.market.paid
    acts = [name for name in dealt if name in ACTS]
    spoiling = [name for name in dealt if name in LINE_FAULTS]
    _spoil(stage, spoiling)
    for name in [*acts, ""]:
        await _pay(stage, conflicts=name == CONFLICTS)
        if name:
            counted[name] += await _count(ACTS[name](stage))
        await _pay(stage, conflicts=False)
    await _pay_until(stage, lambda: all(any(line.done[name] for line in stage.lines) for name in spoiling))
    found = await _settle(stage, dealt)
    for line in stage.lines:
        counted.update(line.done)
        line.done.clear()
    counted["payments"] += stage.market.paid - paid
    return Findings(1, counted, found)


def _spoil(stage: Stage, faults: list[str]) -> None:
    for line in stage.lines:
        line.faults, line.share = faults, 0.2 if faults else 0.0


async def _pay(stage: Stage, *, conflicts: bool) -> None:
    await asyncio.to_thread(stage.market.pay, stage.random.randint(1, 3), conflicts=conflicts)
    await asyncio.sleep(stage.random.random() * 0.2)  # sooner or later while the relay is at it


async def _pay_until(stage: Stage, came: Callable[[], bool]) -> None:
    """Give it a deadline; of a reader that stands still the books say where it is."""
    with suppress(TimeoutError):
        async with asyncio.timeout(SETTLE_SECONDS):
            while not came():
                await _pay(stage, conflicts=False)


async def _count(act: Awaitable[object]) -> int:
    result = await act
    return result if isinstance(result, int) else 1


async def _settle(stage: Stage, dealt: list[str]) -> list[str]:
    """Heal everything, and give the readers time; what is wrong then."""
    for line in stage.lines:
        line.heal()
    dsn = stage.database.dsn()
    with suppress(TimeoutError):  # then the books say who is where
        async with asyncio.timeout(SETTLE_SECONDS):
            while not await asyncio.to_thread(_all_read, dsn):
                await asyncio.sleep(0.05)
    found = await asyncio.to_thread(books.violations, stage.database)
    return [f"after {', '.join(dealt)}: {violation}" for violation in found[:VIOLATIONS_MAX]]


def _all_read(dsn: str) -> bool:
    end = books.head(dsn)
    return all(books.position(dsn, reader)[1] == end for reader in books.READERS)


# What is done once in a round, by name; what it counts if it is more than one.

CONFLICTS = "saves that conflict"


async def _conflicts(stage: Stage) -> int:
    """The payments before it went to two signers by turns: positions are burned by the loser."""
    before = await asyncio.to_thread(books.burned, stage.database.dsn())
    await asyncio.to_thread(stage.market.pay, 4, conflicts=True)
    return await asyncio.to_thread(books.burned, stage.database.dsn()) - before


async def _close(stage: Stage) -> None:
    await asyncio.to_thread(stage.market.close_all)


async def _halt_leader(stage: Stage) -> None:
    """Halt both relays where they are, take the lock away, and let them go on with what they hold."""
    for line in stage.lines:
        line.halt()
        await asyncio.to_thread(stage.market.pay, 2)
        await asyncio.sleep(0.1)
        await stage.steal_lock()
    for line in reversed(stage.lines):
        line.resume()
        await asyncio.sleep(0.1)


async def _fight(stage: Stage) -> int:
    """Take the lock from whoever has it, again and again."""
    stolen = 0
    for _ in range(4):
        await asyncio.to_thread(stage.market.pay, 1)
        stolen += await stage.steal_lock()
        await asyncio.sleep(stage.random.random() * 0.3)
    return stolen


async def _restart_readers(stage: Stage) -> None:
    for reading in stage.readings:
        await reading.stop()
        reading.start()


async def _die_unacknowledged(stage: Stage) -> int:
    before = sum(reading.deaths for reading in stage.readings)
    for reading in stage.readings:
        await stage.redeliver_soon(reading.reader.durable)
        reading.dies_unacknowledged = True
    await _pay_until(stage, lambda: not any(reading.dies_unacknowledged for reading in stage.readings))
    return sum(reading.deaths for reading in stage.readings) - before


async def _undo_commits(stage: Stage) -> int:
    for reading in stage.readings:
        reading.next_commit_fails = True
    await _pay_until(stage, lambda: not any(reading.next_commit_fails for reading in stage.readings))
    return len(stage.readings)


async def _delete_consumers(stage: Stage) -> None:
    for reading in stage.readings:
        await stage.delete_consumer(reading.reader.durable)


async def _purge_upto(stage: Stage) -> None:
    await stage.purge(upto=True)


async def _purge_keep(stage: Stage) -> None:
    await stage.purge(upto=False)


async def _delete_some(stage: Stage) -> int:
    return await stage.delete_some()


async def _delete_stream(stage: Stage) -> None:
    await stage.delete_stream()


async def _kill_server(stage: Stage) -> None:
    await asyncio.to_thread(stage.server.kill)
    await asyncio.to_thread(stage.market.pay, 2)
    await asyncio.to_thread(stage.server.start)


async def _wipe_server(stage: Stage) -> None:
    await asyncio.to_thread(stage.server.kill)
    stage.server.wipe()
    await asyncio.to_thread(stage.market.pay, 2)
    await asyncio.to_thread(stage.server.start)


async def _rot(stage: Stage) -> int:
    """Flip bits in the files of what readers have not read; all is offered to them once more."""
    for reading in stage.readings:
        await reading.stop()
    await _pay(stage, conflicts=False)
    await asyncio.sleep(0.3)
    await _delete_consumers(stage)
    await asyncio.to_thread(stage.server.stop)
    flipped = stage.server.rot(stage.random, stage.random.randint(1, 40))
    await asyncio.to_thread(stage.server.start)
    for reading in stage.readings:
        reading.start()
    return flipped


ACTS: dict[str, Act] = {
    CONFLICTS: _conflicts,
    "sessions closed": _close,
    "relays halted": _halt_leader,
    "locks stolen": _fight,
    "readers restarted": _restart_readers,
    "deaths before the acknowledgement": _die_unacknowledged,
    "commits undone": _undo_commits,
    "consumers deleted": _delete_consumers,
    "purges up to a message": _purge_upto,
    "purges of all but the last": _purge_keep,
    "messages deleted": _delete_some,
    "streams deleted": _delete_stream,
    "kills of the server": _kill_server,
    "stores wiped": _wipe_server,
    "bits flipped on disk": _rot,
}
