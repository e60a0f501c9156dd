"""Kills real processes in mid-import: pushed usage, signed tickets and payments, and all totals are exact.

Two clients push each feed at the same time, one by each edge; the command imports files beside them.
Each chunk has a world of its own, with two of each process.
"""

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import aiohttp

from tests.acceptance.system import System, until
from tests.faults.checker.checker import Checker
from tests.faults.imports import asked
from tests.faults.imports.feeds import USERS, Customer, EventFeed, Feed, TicketFeed
from tests.faults.imports.importers import Command, Importer, Notes, Pusher
from tests.faults.imports.payers import paying
from tests.faults.imports.rows import read_rows
from tests.faults.imports.rules import Found, violations
from tests.faults.imports.sent import METERS, RUN, Sent
from tests.faults.kills.load import Load
from tests.faults.kills.world import OPTIONS, SteppedWorld
from tests.faults.part import Findings
from tests.faults.world import running_world
from tilt.world import World

UNIT = "kills"
AMOUNT = 40
KILLS_A_WORLD = 20
ACCOUNTS = 3
LIMIT_WEI = 10**18  # nobody may be refused
PAUSE_SECONDS = (0.2, 1.5)  # before the next kill, once all were served after the one before
INTO_SECONDS = (0.0, 0.06)  # about as long as a batch takes to be answered
RESTART_SECONDS, SERVED_SECONDS, FINISH_SECONDS, SETTLE_SECONDS = 60, 120, 180, 90
HOUR_SECONDS = 3600
PUSHED, FROM_FILE = "pushed", "file"  # sources of events


@dataclass(frozen=True)
class Kill:
    """All of these at the same moment: so long after a batch was sent, after a while."""

    victims: tuple[str, ...]
    after_seconds: float
    into_seconds: float

    def __str__(self) -> str:
        return " and ".join(self.victims)


def deck(world: World, random: Random) -> Iterator[Kill]:
    """Everything between a client and the tables: one, both of them, servers; shuffled, again and again."""
    pairs = [world.replicas_of(name) for name in ("metering", "signer-relay", "edge")]
    groups = [*pairs, *([name] for pair in pairs for name in pair), ["nats"], ["postgres"]]
    groups += [["metering", "nats"], ["postgres", "metering-2"]]
    while True:
        random.shuffle(groups)
        for group in groups:
            yield Kill(tuple(group), random.uniform(*PAUSE_SECONDS), random.uniform(*INTO_SECONDS))


def run(seed: int, amount: int) -> Iterator[Findings]:
    done, number = 0, 0
    while done < amount:
        findings = asyncio.run(run_world(f"{seed}:{number}", min(KILLS_A_WORLD, amount - done)))
        yield findings
        done += max(1, findings.tried)
        number += 1


async def run_world(seed: str, amount: int) -> Findings:
    random = Random(seed)
    with running_world(SteppedWorld, OPTIONS) as (world, supervisor):
        connector = aiohttp.TCPConnector(ssl=False, limit=0)
        async with aiohttp.ClientSession(connector=connector) as http:
            trial = Trial(System(world, supervisor, http), random)
            await trial.run(deck(world, random), amount)
    return Findings(trial.kills, trial.counted, trial.violations)


class Trial:
    """The imports of one world under kills, and what was found. `found` is there when it has run."""

    def __init__(self, system: System, random: Random) -> None:
        self._system = system
        self._random = random
        self.sent = Sent(hour=int(time.time()) // HOUR_SECONDS)
        self.notes = Notes(self.sent)
        self.kills = 0
        self.counted: Counter[str] = Counter()
        self.violations: list[str] = []
        self.found: Found | None = None

    async def run(self, kills: Iterator[Kill], amount: int) -> None:
        """Kill so often, or until no kill is left; then all that was begun is finished and must add up."""
        await _define_meters(self._system)
        with tempfile.TemporaryDirectory() as directory:
            customers = [await _open_customer(self._system) for _ in range(ACCOUNTS)]
            accounts = [customer.account for customer in customers]
            async with (
                paying(self._system, accounts, self._random) as payers,
                self._importing(customers, Path(directory)) as importers,
            ):
                for kill in kills:
                    await self._kill(kill, importers, payers)
                    if self.kills >= amount or self.violations:
                        break
        self.violations += [*self.notes.problems, *payers.problems()]
        self.counted += self.notes.counted
        self.counted["payments received"] += len(payers.held.receipts)
        await self._check(payers)

    @asynccontextmanager
    async def _importing(
        self, customers: Sequence[Customer], directory: Path
    ) -> AsyncIterator[list[Importer]]:
        """Import until it is left, then to the end of what was begun; yields those who go on visibly."""
        feeds, commands = self._feeds(customers), self._commands(customers, directory)
        urls = self._system.world.public_urls
        together = [(feed, asyncio.Barrier(len(urls))) for feed in feeds]
        pushers = [
            Pusher(self._system, url, feed, self.notes, there=there, random=self._seeded())
            for feed, there in together
            for url in urls
        ]
        importers: list[Importer] = [*pushers, *(command for command, _ in commands)]
        tasks = [asyncio.create_task(each.run()) for each in importers]
        try:
            await self._until_served(pushers, "before all kills")
            yield list(pushers)
        finally:
            for feed in (*feeds, *(feed for _, feed in commands)):
                feed.close()
            await asyncio.wait(tasks, timeout=FINISH_SECONDS)
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            self.violations += [
                f"an import did not end: {one!r}" for one in ended if isinstance(one, BaseException)
            ]

    def _feeds(self, customers: Sequence[Customer]) -> list[Feed[Any]]:
        world = self._system.world
        events = EventFeed(customers, self._seeded(), self.sent, source=PUSHED, admin_key=world.admin_key)
        tickets = TicketFeed(customers, self._seeded(), self.sent, hook_secret=world.hook_secret)
        return [events, tickets]

    def _commands(
        self, customers: Sequence[Customer], directory: Path
    ) -> list[tuple[Command[Any], Feed[Any]]]:
        world, one = self._system.world, customers[:1]
        events = EventFeed(
            one, self._seeded(), self.sent, source=FROM_FILE, admin_key=world.admin_key, all_good=True
        )
        tickets = TicketFeed(
            customers, self._seeded(), self.sent, hook_secret=world.hook_secret, all_good=True
        )
        push = ("usage", "push", one[0].account.account_id)
        made: list[tuple[tuple[str, ...], Feed[Any]]] = [(push, events), (("tickets", "import"), tickets)]
        return [
            (Command(words, world.nats_url("cli"), feed, self.notes, directory / words[0]), feed)
            for words, feed in made
        ]

    def _seeded(self) -> Random:
        return Random(self._random.random())

    # Killing

    async def _kill(self, kill: Kill, importers: Sequence[Importer], payers: Load) -> None:
        began = time.monotonic()
        await asyncio.sleep(kill.after_seconds)
        try:
            await asyncio.wait_for(self.notes.asked.wait(), SERVED_SECONDS)
            await asyncio.sleep(kill.into_seconds)
            pids = {name: await self._pid(name, {None}) for name in kill.victims}
            for name, pid in pids.items():
                with suppress(ProcessLookupError):  # who loses a lease ends by itself
                    os.kill(pid, signal.SIGKILL)
                self.kills += 1
                self.counted[f"killed {name}{' beside others' if len(pids) > 1 else ''}"] += 1
            for name, pid in pids.items():
                await self._pid(name, {None, pid})
            await self._until_served(importers, f"after {kill}")
            await payers.until_served(seconds=SERVED_SECONDS)
        except (AssertionError, TimeoutError) as problem:
            self.violations.append(f"after {kill}: {problem!r}")
        sys.stderr.write(f"  {time.monotonic() - began:5.1f} s  {kill}\n")

    async def _pid(self, name: str, other_than: set[int | None]) -> int:
        async def running() -> int | None:
            pid = self._system.supervisor.pid(name)
            return None if pid in other_than else pid

        return await until(f"{name} runs", running, seconds=RESTART_SECONDS) or 0

    async def _until_served(self, importers: Sequence[Importer], when: str) -> None:
        """Each import goes on: one that began before may have been answered by who died."""
        before = [importer.answered for importer in importers]

        async def served() -> bool:
            return all(
                importer.answered > count + 1 for importer, count in zip(importers, before, strict=True)
            )

        await until(f"every import goes on {when}", served, seconds=SERVED_SECONDS)

    # Checking

    async def _check(self, payers: Load) -> None:
        """Once the readers of all logs are at their end, everything; what is late is a violation."""
        evidence, account_ids = await payers.evidence(orchestrator=False), payers.account_ids
        dsn = self._system.world.dsn()
        settled = Checker(dsn).check_settled
        books, broken = await asyncio.to_thread(settled, evidence, seconds=SETTLE_SECONDS)
        self.violations += [str(one) for one in broken]
        rows = await asyncio.to_thread(read_rows, dsn, account_ids)
        found = self.found = Found(account_ids, rows, books, evidence)
        for account_id in account_ids:
            found.told |= await asked.told(self._system, account_id)
            found.told_cost |= await asked.told_cost(self._system, account_id)
        due = Counter[str]()
        for (account_id, _, _), wei in found.told_cost.items():
            due[account_id] += wei

        async def all_is_spent() -> bool:
            found.spent = {each: await asked.spent(self._system, each) for each in account_ids}
            return found.spent == due

        try:
            await until("quota spent what metering tells", all_is_spent, seconds=SETTLE_SECONDS)
        except AssertionError as problem:
            self.violations.append(str(problem))
        found.differing = await asked.differing(self._system)
        self.violations += [str(one) for one in violations(self.sent, found)]
        self.counted["events sent"] += len(self.sent.events)
        self.counted["tickets sent"] += len(self.sent.tickets)
        self.counted["recorded, but the answer was lost"] += self._unanswered()
        self.counted["rows of hours compared"] += len(rows.hours) + len(rows.values) + len(rows.paid_hours)

    def _unanswered(self) -> int:
        """How many were pushed that nobody was told of as recorded: it died between commit and answer."""
        pushed = [key for key, event in self.sent.events.items() if event.source == PUSHED]
        answers = [self.sent.answers.get(key, Counter()) for key in pushed]
        return sum(answer["repeated"] > 0 and not answer["recorded"] for answer in answers)


async def _define_meters(system: System) -> None:
    for name, meter in METERS.items():
        answer = await system.call("PUT", f"/v1/meters/{name}", body={"event_type": RUN, **meter})
        assert answer.status == 200, answer


async def _open_customer(system: System) -> Customer:
    account = await system.open_account(LIMIT_WEI)
    path = f"/v1/accounts/{account.account_id}/keys"
    answer = await system.call("POST", path, body={"user_id": USERS[0]})
    return Customer(account, answer.json["api_key"])
