"""Kills real processes under load, at named steps and at random, and has the books checked.

Each chunk has a world of its own, so that its books stay small enough to be read after each kill.
"""

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from random import Random

import aiohttp
from nats.errors import Error as NatsError

from tests.acceptance.system import System, until
from tests.faults.checker.checker import Checker
from tests.faults.checker.evidence import Evidence, Killed, Violation
from tests.faults.kills.deck import AtStep, Kill, deck
from tests.faults.kills.load import Load, load
from tests.faults.kills.world import OPTIONS, SteppedWorld
from tests.faults.part import Findings
from tests.faults.world import running_world

UNIT = "kills"
AMOUNT = 200
KILLS_A_WORLD = 25
CHECK_ORCHESTRATOR_EVERY = 5  # kills
REACH_SECONDS = 40  # until a process must have come to the step it is to die at
RESTART_SECONDS = 60
SERVED_SECONDS = 120
SETTLE_SECONDS = 60
FREED_SECONDS = 60
PUT_SECONDS = 60  # until every entry that a kill prevented is in its bucket


def run(seed: int, amount: int) -> Iterator[Findings]:
    done, number = 0, 0
    while done < amount:
        findings = asyncio.run(run_world(f"{seed}:{number}", min(KILLS_A_WORLD, amount - done)))
        yield findings
        done += max(1, findings.tried)
        number += 1


async def run_world(seed: str, amount: int, **clients: int) -> Findings:
    """Start a world, kill in it so often, check its books to the end."""
    random = Random(seed)
    with running_world(SteppedWorld, OPTIONS) as (world, supervisor):
        assert isinstance(world, SteppedWorld)
        connector = aiohttp.TCPConnector(ssl=False, limit=0)
        async with aiohttp.ClientSession(connector=connector) as http:
            system = System(world, supervisor, http)
            kills = deck(world, random)
            return await Matrix(world, system, random).run(kills, amount, **clients)


class Matrix:
    """The kills of one world, and what was found."""

    def __init__(self, world: SteppedWorld, system: System, random: Random) -> None:
        self._world = world
        self._system = system
        self._random = random
        self._checker = Checker(world.dsn())
        self.kills = 0
        self.counted: Counter[str] = Counter()
        self.violations: list[str] = []

    async def run(self, kills: Iterator[Kill], amount: int, **clients: int) -> Findings:
        """Kill so often under load, or until no kill is left; then everything stops and must add up."""
        async with load(self._system, self._random, **clients) as running:
            for kill in kills:
                await self._kill_and_check(kill, running)
                if self.kills >= amount or self.violations:
                    break
        await self._check_the_end(running)
        self.counted.update(running.held.counted)
        return Findings(self.kills, self.counted, self.violations)

    async def _kill_and_check(self, kill: Kill, running: Load) -> None:
        began, since = time.monotonic(), datetime.now(UTC)
        try:
            for victim in await self._kill(kill):
                self.kills += 1
                self.counted[f"killed {kill if isinstance(kill, AtStep) else f'{victim}: at random'}"] += 1
            await running.until_served(seconds=SERVED_SECONDS)
        except AssertionError as problem:
            self.violations.append(f"after {kill}: {problem}")
        running.held.kills.append(Killed(since, datetime.now(UTC)))
        await self._until_buckets_are_written(f"after {kill}", running)
        evidence = await running.evidence(orchestrator=self.kills % CHECK_ORCHESTRATOR_EVERY == 0)
        _, found = await asyncio.to_thread(self._checker.check, evidence, seconds=RESTART_SECONDS)
        self._note(f"after {kill}", found, running)
        sys.stderr.write(f"  {time.monotonic() - began:5.1f} s  {kill}\n")

    async def _check_the_end(self, running: Load) -> None:
        evidence = await running.evidence(orchestrator=True)
        books, found = await asyncio.to_thread(self._checker.check_settled, evidence, seconds=SETTLE_SECONDS)
        self._note("in the end", found, running)
        self.counted["payments in the log"] += len(books.payments)
        self.counted["tickets in the log"] += sum(payment.tickets for payment in books.payments)
        self.counted["tickets the orchestrator took"] += len(evidence.accepted)

        async def nothing_is_held() -> bool:
            accounts = running.account_ids
            return await asyncio.to_thread(self._checker.held, accounts, seconds=RESTART_SECONDS) == 0

        try:
            await until("every allowance was given back", nothing_is_held, seconds=FREED_SECONDS)
        except AssertionError as problem:
            self.violations.append(f"in the end: {problem}")
        await self._until_buckets_are_written("in the end", running)
        evidence.entries, evidence.credit = await running.entries(), await running.credit()
        _, found = await asyncio.to_thread(self._checker.check, evidence, seconds=RESTART_SECONDS)
        self._note("when all was given back", found, running)

    async def _until_buckets_are_written(self, when: str, running: Load) -> None:
        """Operators go on meanwhile: at one moment the buckets have to be what the log says."""

        async def written() -> bool:
            try:
                evidence = Evidence(entries=await running.entries())
            except NatsError:
                return False
            return await asyncio.to_thread(self._checker.has_entries, evidence, seconds=RESTART_SECONDS)

        try:
            await until("each entry is in its bucket", written, seconds=PUT_SECONDS)
        except AssertionError as problem:
            self.violations.append(f"{when}: {problem}")

    def _note(self, when: str, found: Sequence[Violation], running: Load) -> None:
        self.violations += [f"{when}: {one}" for one in (*found, *running.problems())]

    # Killing

    async def _kill(self, kill: Kill) -> list[str]:
        """Kill, wait until all run again, and return who was killed."""
        names = self._world.replicas_of(kill.process) if isinstance(kill, AtStep) else kill.processes
        pids = {name: await self._pid(name) for name in names}
        if isinstance(kill, AtStep):
            killed = await self._kill_at_step(kill, names)
        else:
            await asyncio.sleep(kill.after_seconds)
            killed = [name for name in names if self._kill_now(name)]
        for name in killed:
            await self._until_restarted(name, pids[name])
        return killed

    async def _kill_at_step(self, kill: AtStep, names: Sequence[str]) -> list[str]:
        """Whoever comes there first; nobody, if nobody does in time, which is counted."""
        self._world.arm(names, kill.step, kill.times)
        deadline = time.monotonic() + REACH_SECONDS
        while not self._world.died(names) and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        killed = self._world.disarm(names)
        if not killed:
            self.counted[f"not reached {kill}"] += 1
        return killed

    def _kill_now(self, name: str) -> bool:
        """Whether it was there to be killed: what lost a lease ends by itself."""
        pid = self._system.supervisor.pid(name)
        if pid is None:
            return False
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    async def _pid(self, name: str) -> int:
        async def running() -> int | None:
            return self._system.supervisor.pid(name)

        return await until(f"{name} runs", running, seconds=RESTART_SECONDS) or 0

    async def _until_restarted(self, name: str, old_pid: int) -> None:
        async def back() -> bool:
            return self._system.supervisor.pid(name) not in {None, old_pid}

        await until(f"{name} runs again", back, seconds=RESTART_SECONDS)
