"""Streams outlive us: X is away, what do running streams notice?

Counted at the orchestrator, on its own terms: it ends a session whose balance does not cover what
was used, looks each five seconds of it, and knows no grace. The first payment of a runner covers
ten seconds, that of live video a minute. A stream that the SDK gives up is lost as well.
"""

import asyncio
import json
import logging
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from itertools import groupby

import aiohttp

from tests.acceptance.checks import settled
from tests.acceptance.system import System
from tests.faults.outlive.outages import Commits, Parts
from tests.faults.outlive.streams import Streams, watched
from tests.faults.outlive.table import Outage, Row, markdown
from tests.faults.outlive.world import OutliveWorld, running
from tests.faults.part import Findings
from tilt.supervisor import Supervisor

UNIT = "outages"
SEEDS_APART = 1_000_003  # a run that goes on gets its seed and this, times what is done
OURS = ("signer", "quota", "accounts", "metering", "signer-relay", "deposit_watcher", "edge")
SERVERS = ("nats", "postgres", "rpc")
VITAL = ("signer", "nats", "postgres")  # without them nothing is signed
CREDITS_AHEAD = (10, 30)
ONE_HALTED_SECONDS = 20.0
HALTED_MAX_SECONDS = 90.0  # who lives through this does not need the part
POLL_SECONDS = 0.1
BETWEEN_PAYMENTS_SECONDS = 3.0
PAID_AGAIN_SECONDS = 60.0
PLAN = (
    Outage("nothing", "undisturbed"),
    *(Outage(part, "restarted") for part in (*OURS, "discovery", "nats", "postgres")),
    Outage("postgres", "failed over"),
    *(Outage(part, "one killed") for part in (*OURS, "nats")),
    *(Outage(part, "one halted") for part in OURS),
    *(Outage(part, "all halted") for part in (*OURS, *SERVERS)),
    *(Outage(part, "all halted", ahead) for ahead in CREDITS_AHEAD for part in VITAL),
)
AMOUNT = len(PLAN)


def run(seed: int, amount: int, plan: Sequence[Outage] = PLAN) -> Iterator[Findings]:
    """Try `amount` outages of the plan; the seed decides where between two payments they begin."""
    seed, done = seed % SEEDS_APART, seed // SEEDS_APART
    logging.getLogger("livepeer_gateway").setLevel(logging.CRITICAL)  # it tells each payment that fails
    chance = random.Random(seed)
    rows: list[Row] = []
    due = plan[done : done + amount]
    for credit, outages in groupby(due, key=lambda outage: outage.credit_ahead_seconds):
        with running(credit) as (world, supervisor), asyncio.Runner() as runner:
            opened = _scene(world, supervisor, chance)
            scene = runner.run(opened.__aenter__())
            try:
                for outage in outages:
                    rows.append(runner.run(scene.row(outage)))
                    sys.stderr.write(f"{json.dumps(asdict(rows[-1]))}\n")
                    yield _findings(rows[-1])
                yield Findings(0, violations=runner.run(scene.check_books()))
            finally:
                runner.run(opened.__aexit__(None, None, None))
    sys.stdout.write(f"{markdown(rows)}\n\n{json.dumps([asdict(row) for row in rows])}\n")


def _findings(row: Row) -> Findings:
    """With all of a part halted streams may die; else one that is lost is a violation."""
    told = f"{row.part} {row.how}: {row.lost} of {row.streams} streams lost {row.problem}"
    violated = row.problem or (row.lost and row.how != "all halted")
    counted = Counter({"streams that were running": row.streams, f"lost with {row.how}": row.lost})
    return Findings(1, counted, [told] if violated else [])


@dataclass(frozen=True)
class Lifetime:
    """For how long all of a part may be halted so that no stream is cut, and when the first is cut."""

    survived_seconds: float | None = None
    cut_seconds: float | None = None


@dataclass
class Scene:
    """A running world with streams in it."""

    parts: Parts
    streams: Streams
    chance: random.Random

    async def row(self, outage: Outage) -> Row:
        """Let one thing go away, and see what becomes of the streams."""
        await self._in_stride()
        running, lost = len(self.streams.alive()), len(self.streams.lost)
        self.parts.commits.forget()
        began = time.monotonic()
        lived, problem = Lifetime(), ""
        try:
            lived = await self._be_away(outage)
            seconds = time.monotonic() - began
            await self.streams.until_all_paid_again(times=2, seconds=PAID_AGAIN_SECONDS)
        except AssertionError as failed:
            seconds, problem = time.monotonic() - began, str(failed)
        return Row(
            part=outage.part,
            how=outage.how,
            credit_ahead_seconds=outage.credit_ahead_seconds,
            streams=running,
            lost=len(self.streams.lost) - lost,
            seconds=round(seconds, 1),
            no_commit_seconds=round(self.parts.commits.longest, 2),
            survived_seconds=lived.survived_seconds,
            cut_seconds=lived.cut_seconds,
            problem=problem,
        )

    async def _be_away(self, outage: Outage) -> Lifetime:
        """Return once all is ready again."""
        match outage.how:
            case "all halted":
                return await self._lifetime(outage.part)
            case "undisturbed":  # if streams are lost now, the machine is too slow to tell anything
                await asyncio.sleep(ONE_HALTED_SECONDS)
            case "one halted":
                await self._halt(self.parts.of(outage.part)[:1], ONE_HALTED_SECONDS)
            case "one killed":
                await self.parts.kill_one(outage.part)
            case "failed over":
                await self.parts.fail_over()
            case "restarted" if outage.part == "postgres":
                await self.parts.restart_postgres()
            case "restarted":
                await self.parts.restart_each(outage.part)
        return Lifetime()

    async def check_books(self) -> list[str]:
        """Whatever was away: each payment is in log, usage and spend once."""
        problems = []
        for account in self.streams.accounts:
            try:
                await settled(self.parts.system, account, seconds=PAID_AGAIN_SECONDS)
            except AssertionError as problem:
                problems.append(f"{account.account_id}: {problem}")
        return problems

    async def _lifetime(self, part: str) -> Lifetime:
        names = self.parts.of(part)
        await self.streams.renew()
        await self._in_stride()
        cut = await self._until_cut(names)
        if cut is None:
            return Lifetime(HALTED_MAX_SECONDS)
        lived, died = 0.0, cut
        while died - lived > max(1.5, died / 8):
            await self.streams.renew()
            await self._in_stride()
            tried = (lived + died) / 2
            if await self._halt(names, tried):
                died = tried
            else:
                lived = tried
        return Lifetime(round(lived, 1), round(cut, 1))

    async def _until_cut(self, names: Sequence[str]) -> float | None:
        before = set(self.streams.lost)
        began = time.monotonic()
        with self.parts.halted(names):
            while not (cut := set(self.streams.lost) - before):
                if time.monotonic() - began > HALTED_MAX_SECONDS:
                    break
                await asyncio.sleep(POLL_SECONDS)
        await self.streams.until_all_paid_again(times=2, seconds=PAID_AGAIN_SECONDS)
        cut = set(self.streams.lost) - before
        return min(self.streams.lost[id_] for id_ in cut) - began if cut else None

    async def _halt(self, names: Sequence[str], seconds: float) -> int:
        """How many streams were lost when these were halted for so long."""
        before = len(self.streams.lost)
        with self.parts.halted(names):
            await asyncio.sleep(seconds)
        await self.streams.until_all_paid_again(times=2, seconds=PAID_AGAIN_SECONDS)
        return len(self.streams.lost) - before

    async def _in_stride(self) -> None:
        await self.streams.fill_up()
        await asyncio.sleep(self.chance.uniform(0, BETWEEN_PAYMENTS_SECONDS))


@asynccontextmanager
async def _scene(world: OutliveWorld, supervisor: Supervisor, chance: random.Random) -> AsyncIterator[Scene]:
    commits = Commits(world.dsn())
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as http,
        watched(System(world, supervisor, http), world.origin) as streams,
    ):
        with commits.going_on():
            yield Scene(Parts(streams.system, world, commits), streams, chance)
