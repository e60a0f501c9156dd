"""Upgrades: this version and an older one side by side, on one bus and one PostgreSQL.

Two of each of our processes run; which of them are of the older version is drawn anew for each mix.
Clients pay through it, processes of both versions are killed, and the books have to agree.
"""

import asyncio
import io
import subprocess
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import aiohttp

from tests.acceptance.checks import settled
from tests.acceptance.sdk import streaming
from tests.acceptance.system import OPTIONS, System
from tests.acceptance.traffic import traffic
from tests.faults.part import Findings
from tests.faults.world import running_world
from tilt.child import Process
from tilt.slot import Slot
from tilt.supervisor import Supervisor
from tilt.world import Options, World

UNIT = "mixes"
AMOUNT = 8
PREVIOUS = "95870ab"
ROOT = Path(__file__).parents[3]
KINDS = ("signer", "signer-relay", "quota", "accounts", "metering", "deposit_watcher", "edge")
OLDER_SHARE = 0.8  # of the kinds
KILLS = 3
SECONDS = 120
SPEND_LIMIT_WEI = 10**16


class NoHistoryError(Exception):
    """The older version is not at hand: this is no git checkout, or a shallow one."""


def run(seed: int, amount: int) -> Iterator[Findings]:
    with tempfile.TemporaryDirectory() as directory:
        previous = Path(directory)
        export(PREVIOUS, previous)
        for number in range(amount):
            yield asyncio.run(_try_mix(Random(seed * 1_000 + number), previous))


def export(commit: str, target: Path) -> None:
    """Write a commit's tree; raises NoHistoryError."""
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        raise NoHistoryError(archive.stderr.decode().strip())
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tree:
        tree.extractall(target, filter="data")


class MixedWorld(World):
    """A world of which some processes are of an older version; they make no tables."""

    def __init__(self, slot: Slot, options: Options, tree: Path, older: frozenset[str]) -> None:
        super().__init__(slot, options)
        self.tree = tree
        self.older = older

    def services(self) -> list[Process]:
        return [
            replace(each, directory=self.tree, env={**(each.env or {}), "PYTHONPATH": str(self.tree)})
            if each.name in self.older
            else each
            for each in super().services()
        ]


def draw(chance: Random) -> frozenset[str]:
    """One of each kind, or the other, or of some kinds none: never both, and never none at all."""
    chosen = [_one_of(kind, chance) for kind in KINDS if chance.random() < OLDER_SHARE]
    return frozenset(chosen or ["signer-2"])


def _one_of(kind: str, chance: Random) -> str:
    # A standby of accounts answered no probe yet, so a world with one is never ready.
    return kind if kind == "accounts" else f"{kind}{chance.choice(('', '-2'))}"


async def _try_mix(chance: Random, tree: Path) -> Findings:
    older = draw(chance)
    options = replace(OPTIONS, replicas=2)
    running = running_world(lambda slot, _: MixedWorld(slot, options, tree, older), options)
    world, supervisor = await asyncio.to_thread(running.__enter__)
    try:
        counted, violations = await _pay(world, supervisor, chance)
    except AssertionError as problem:
        counted, violations = Counter[str](), [f"{sorted(older)}: {problem}"]
    finally:
        await asyncio.to_thread(running.__exit__, None, None, None)
    counted["older processes"] += len(older)
    return Findings(1, counted, violations)


async def _pay(world: World, supervisor: Supervisor, chance: Random) -> tuple[Counter[str], list[str]]:
    """SDK and hand-written clients pay while processes die; then signer, quota and metering agree."""
    # Orchestrators sign their certificates themselves; no client of theirs looks at them.
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as http:
        system = System(world, supervisor, http)
        account = await system.open_account(SPEND_LIMIT_WEI)
        async with streaming(system, account) as stream, traffic(system, account) as paying:
            for kind in chance.sample(KINDS, KILLS):
                name = f"{kind}{chance.choice(('', '-2'))}"
                old_pid = system.kill(name)
                await system.until_restarted(name, old_pid)
                await paying.until_all_paid_again(seconds=SECONDS)
            await stream.until_paid_again(seconds=SECONDS)
        totals = await settled(system, account, seconds=SECONDS)
        signed = (await system.log()).of(account.account_id).tickets()
    lost = paying.receipts.items() - signed.items()
    violations = [f"{len(lost)} tickets in hand are not in the log"] if lost else []
    counted = Counter(kills=KILLS, payments=totals.payments, tickets=totals.tickets)
    return counted, [*violations, *paying.problems]
