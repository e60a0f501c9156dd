"""Restores PostgreSQL from a backup under load, each time another way, and has the books checked.

Tickets that went out after the backup are lost from the signer's log. Then: a new epoch began by
itself; no nonce was signed twice; metering and quota have each ticket once; what was lost is either
recovered or in the report, and recovered if the stream told of it; and every client pays again, a
session of the official SDK as well.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import aiohttp

from tests.acceptance.sdk import streaming
from tests.acceptance.signer_log import TicketId
from tests.acceptance.system import OPTIONS, Account, System, until
from tests.faults.part import Findings
from tests.faults.restore.books import Books, epochs, read_books, tickets_on_the_stream
from tests.faults.restore.clients import Customers, customers
from tests.faults.restore.database import Backup, SchemaBackup, Way
from tests.faults.world import running_world
from tilt.child import Process
from tilt.world import World

UNIT = "restores"
AMOUNT = 40
RESTORES_A_WORLD = 5
START_SECONDS = 300
PAID_SECONDS = 120
SETTLE_SECONDS = 90
LIMIT_WEI = 10**17
AHEAD_SECONDS = 40
FENCED_BLOCKS = 12  # an orchestrator quotes its head + 40; the fence wants more than its own + 50
BLOCK_SECONDS = 1.0  # the signers see a block by way of the watcher, a moment later


@dataclass(frozen=True)
class Restore:
    """One way to lose the tail."""

    way: Way
    destroy_bus: bool

    def __str__(self) -> str:
        return f"{self.way}, {'the bus destroyed' if self.destroy_bus else 'the bus alive'}"


WAYS = [
    *(Restore(way, destroy_bus) for destroy_bus in (False, True) for way in (Way.COPY, Way.RECOVERY)),
    Restore(Way.SCHEMA, destroy_bus=False),
]


def run(seed: int, amount: int) -> Iterator[Findings]:
    done, random = 0, Random(seed)
    while done < amount:
        ways = random.sample(WAYS, len(WAYS))[: min(RESTORES_A_WORLD, amount - done)]
        yield asyncio.run(run_world(ways))
        done += len(ways)


class PatientWorld(World):
    """Others may need the machine, too, while this starts; sessions are paid longer ahead than a fence."""

    def servers(self) -> list[Process]:
        return [replace(process, ready_within_seconds=START_SECONDS) for process in super().servers()]

    def services(self) -> list[Process]:
        ahead = {"SIGNER_CREDIT_AHEAD_SECONDS": str(AHEAD_SECONDS)}
        return [
            replace(
                process,
                ready_within_seconds=START_SECONDS,
                env={**(process.env or {}), **(ahead if process.name == "signer" else {})},
            )
            for process in super().services()
        ]


async def run_world(ways: list[Restore]) -> Findings:
    counted: Counter[str] = Counter()
    violations: list[str] = []
    with running_world(PatientWorld, OPTIONS) as (world, supervisor):
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as http:
            system = System(world, supervisor, http)
            account = await system.open_account(LIMIT_WEI)
            trial = Trial(system, account, with_sdk=True)
            for way in ways:
                began = time.monotonic()
                violations += [f"{way}: {found}" for found in await trial.restore(way)]
                counted[f"restored: {way}"] += 1
                sys.stderr.write(f"  {time.monotonic() - began:5.1f} s  {way}\n")
            counted += trial.counted
    return Findings(len(ways), counted, violations)


class Trial:
    """Restores of one world, with clients that pay meanwhile and keep receipts."""

    def __init__(self, system: System, account: Account, *, with_sdk: bool = False) -> None:
        self._system = system
        self._account = account
        self._with_sdk = with_sdk  # it gives up with the orchestrator: sessions have to be paid ahead
        self._dsn = system.world.dsn()
        self._receipts: dict[TicketId, bytes] = {}
        self.counted: Counter[str] = Counter()

    async def restore(self, restore: Restore) -> list[str]:
        """Lose a tail under load, come back, and say what is wrong then."""
        try:
            return await self._restore(restore)
        except AssertionError as problem:
            return [str(problem)]

    async def _restore(self, restore: Restore) -> list[str]:
        found: list[str] = []
        async with AsyncExitStack() as stack:
            running = await stack.enter_async_context(customers(self._system, self._account))
            sdk = None
            if self._with_sdk:
                sdk = await stack.enter_async_context(streaming(self._system, self._account))
                await sdk.until_paid_again(seconds=PAID_SECONDS)  # only from its second payment on ahead
            take = SchemaBackup.take if restore.way is Way.SCHEMA else Backup.take
            backup: Backup | SchemaBackup = await asyncio.to_thread(take, self._system)
            before = {name: epochs(self._dsn, name) for name in ("signer", "quota", "metering")}
            await running.until_all_paid_again(seconds=PAID_SECONDS)
            await backup.restore(self._system, restore.way, destroy_bus=restore.destroy_bus)
            lost_receipts = dict(running.receipts)
            await self._until_paid_again(running)
            if sdk is not None:
                await sdk.until_paid_again(seconds=PAID_SECONDS)
                self.counted["sessions of the SDK that paid on"] += 1
            found += [f"no epoch of {name} began" for name in await self._without_new_epoch(before, restore)]
            found += running.problems
            found += self._note_receipts(lost_receipts)
            found += self._note_receipts(running.receipts)
        books = await self._settled()
        found += await self._compare(books, lost_receipts)
        if not restore.destroy_bus:
            found += await self._unrecovered(books)
        return found

    async def _until_paid_again(self, running: Customers) -> None:
        """The fence wants params that expire later than it: let the chain move, a block a moment.

        Not before the signers are back: quotes must not be far ahead of the block they see.
        """
        paying = asyncio.create_task(running.until_all_paid_again(seconds=PAID_SECONDS))
        mined, before = 0, running.refreshes
        while not paying.done():
            await asyncio.sleep(BLOCK_SECONDS)
            if running.refreshes > before and mined < 3 * FENCED_BLOCKS:
                await self._system.mine(1)
                mined += 1
        await paying

    async def _without_new_epoch(
        self, before: dict[str, list[tuple[int, str]]], restore: Restore
    ) -> list[str]:
        """The services whose log should have begun an epoch, and did not; the signer's always should."""
        names = before if restore.way is Way.RECOVERY else ["signer"]

        async def began() -> bool:
            return all(epochs(self._dsn, name) > before[name] for name in names)

        try:
            await until("epochs began", began, seconds=SETTLE_SECONDS)
        except AssertionError:
            return [name for name in names if not epochs(self._dsn, name) > before[name]]
        for name in names:
            self.counted[f"epoch of {name}: {epochs(self._dsn, name)[-1][1]}"] += 1
        return []

    def _note_receipts(self, receipts: dict[TicketId, bytes]) -> list[str]:
        """Keep every ticket that ever got out; the same one twice must be the same bytes."""
        again = [
            ticket for ticket in receipts if self._receipts.get(ticket, receipts[ticket]) != receipts[ticket]
        ]
        self._receipts |= receipts
        return [f"signed twice with different bytes: {ticket}" for ticket in again]

    async def _settled(self) -> Books:
        """Wait until metering and quota say what the log and the recovered tickets say."""
        last: dict[str, Any] = {}

        async def agree() -> bool:
            books = await asyncio.to_thread(read_books, self._dsn, self._account.account_id)
            spent = int((await self._system.limits(self._account))["spent_wei"])
            last.update(
                books=books,
                said=(books.tickets, books.cost),
                usage=(books.usage_tickets, books.usage_cost),
                spent=spent,
            )
            return (books.tickets, books.cost, books.cost) == (*last["usage"], spent)

        try:
            await until("signer, metering and quota agree", agree, seconds=SETTLE_SECONDS)
        except AssertionError as problem:
            told = {name: value for name, value in last.items() if name != "books"}
            raise AssertionError(f"{problem}; {told}") from problem
        books: Books = last["books"]
        return books

    async def _compare(self, books: Books, lost_receipts: dict[TicketId, bytes]) -> list[str]:
        logged = books.log.tickets()
        differing = [ticket for ticket, sig in self._receipts.items() if logged.get(ticket, sig) != sig]
        both = books.recovered.keys() & logged.keys()
        missing = lost_receipts.keys() - logged.keys() - books.recovered.keys()
        report = await asyncio.to_thread(_report, self._system)
        told: dict[str, Any] = {"tickets": 0, "cost_wei": "0"}
        for each in report["recovered"]["by_account"]:
            if each["account_id"] == self._account.account_id:
                told = each
        self.counted["tickets signed"] += len(lost_receipts)
        self.counted["tickets recovered"] += len(books.recovered.keys() & lost_receipts.keys())
        self.counted["tickets lost and reported"] += len(missing)
        found = [f"signed twice with different bytes: {ticket}" for ticket in differing]
        found += [f"in the log and recovered: {ticket}" for ticket in both]
        found += [f"a nonce came twice: {ticket}" for ticket in books.log.repeated_nonces()]
        if (told["tickets"], int(told["cost_wei"])) != (len(books.recovered), books.recovered_cost):
            found.append(f"the report tells {told} of {books.recovered_cost} wei")
        if report["missing"]["payments"] < self._missing_payments(missing):
            found.append(f"{len(missing)} tickets are gone, the report tells {report['missing']}")
        return found

    async def _unrecovered(self, books: Books) -> list[str]:
        """Tickets that clients hold and the stream tells of, and that are in no book of ours."""
        known = books.log.tickets().keys() | books.recovered.keys()
        told = await tickets_on_the_stream(self._system)
        self.counted["tickets on the stream"] += len(told)
        return [f"not recovered: {ticket}" for ticket in (told & self._receipts.keys()) - known]

    def _missing_payments(self, missing: set[TicketId]) -> int:
        """How many payments at least: a payment here has one ticket, or few of one hash in a row."""
        return sum((rand_hash, nonce - 1) not in missing for rand_hash, nonce in missing)


def _report(system: System) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "services.signer.restore", "report", "--json"],
        env={**os.environ, "SIGNER_POSTGRES_DSN": system.world.dsn("signer")},
        capture_output=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found
