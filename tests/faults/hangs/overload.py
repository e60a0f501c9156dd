"""More than can be served, through one edge: `python -m tests.faults overload`.

What it can serve is measured first; then payments come at half of that, all, twice and four times,
however the answers are. Prints a row for each.
"""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from tests.bench import bench
from tests.bench.load import Task
from tests.faults.hangs.resources import Resources, Watch
from tests.faults.part import Findings
from tests.faults.world import running_world
from tilt.supervisor import Supervisor
from tilt.world import Options, World

UNIT = "rates"
AMOUNT = 4
SHARES = (0.5, 1.0, 2.0, 4.0)
VISITORS_LEAST, VISITORS_MOST = 64, 1_000
VISIT_SECONDS = 2.0  # at most, each
SECONDS = 10.0
MEASURED_SECONDS = 5.0
CLOSED_CLIENTS = 64
RUN_SECONDS_MAX = 300

# Bounds of what is recorded.
ANSWERED_SECONDS = 2.0
REFUSED_SECONDS = 2.0
GOODPUT_LEAST = 0.5  # of what can be served, under any load above it: clients take their share of the machine
MEMORY_MORE_KIB_MAX = 64 * 1024
WATCHED = ("edge", "signer", "quota", "metering", "signer-relay")


@dataclass(frozen=True)
class Setting:
    """Where payments go, and how many can be served."""

    world: World
    supervisor: Supervisor
    keys: list[str]
    per_second: float


def run(seed: int, amount: int) -> Iterator[Findings]:
    """Each share in turn; there is nothing to draw, the seed only says where to begin."""
    with running_world(World, Options(spend_limit_wei=10**18, log_level="warning")) as (world, supervisor):
        setting = asyncio.run(_measure(world, supervisor))
        sys.stderr.write(
            f"served: {setting.per_second:.0f} payments/s to {CLOSED_CLIENTS} clients\n{HEADER}\n"
        )
        for number in range(amount):
            yield asyncio.run(_try(setting, SHARES[(seed - 1 + number) % len(SHARES)]))


async def _measure(world: World, supervisor: Supervisor) -> Setting:
    keys = [await bench.open_account(world, number) for number in range(bench.ACCOUNTS)]
    task = await _task(world, keys, "warm", clients=CLOSED_CLIENTS, seconds=MEASURED_SECONDS)
    measured = await _run("tests.bench.load", task)
    return Setting(world, supervisor, keys, float(measured["per_second"]))


async def _try(setting: Setting, share: float) -> Findings:
    rate = setting.per_second * share
    watch = Watch(setting.supervisor, WATCHED)
    watching = [asyncio.create_task(watch.run()), asyncio.create_task(watch.feel())]
    try:
        task = await _task(
            setting.world, setting.keys, "open", clients=_visitors(rate), seconds=SECONDS, rate=rate
        )
        seen = await _run("tests.faults.hangs.crowd", task)
    finally:
        for each in watching:
            each.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
    sys.stderr.write(_row(share, rate, seen, watch) + "\n")
    counted = Counter({"answered": seen["answered"], "refused with Retry-After": seen["refused"]})
    counted["refused with Retry-After"] -= seen["not_told_when"]
    return Findings(1, counted, _violations(setting, share, seen, watch))


def _visitors(rate: float) -> int:
    """So many that somebody is always free to come."""
    return min(VISITORS_MOST, max(VISITORS_LEAST, int(rate * VISIT_SECONDS)))


async def _task(world: World, keys: list[str], kind: str, **how: Any) -> Task:
    chain = await bench.chain_now(world)
    return Task(kind=kind, url=world.public_url, api_keys=keys, warm_up_seconds=1.0, **{**chain, **how})


async def _run(module: str, task: Task) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        said = process.communicate(json.dumps(asdict(task)).encode())
        output, _ = await asyncio.wait_for(said, RUN_SECONDS_MAX)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    result: dict[str, Any] = json.loads(output)
    return result


HEADER = (
    "| offered | of what is served | answered | p50 / p99 | refused | p50 / p99 | other"
    " | memory of the edge |\n|---|---|---|---|---|---|---|---|"
)


def _row(share: float, rate: float, seen: dict[str, Any], watch: Watch) -> str:
    others = {**seen["others"], **seen["broken"]}
    if seen["nobody_free"]:
        others["not sent"] = seen["nobody_free"]
    return (
        f"| {rate:.0f}/s | {share:g} | {seen['answered'] / seen['seconds']:.0f}/s"
        f" | {seen['answered_p50'] * 1000:.0f} / {seen['answered_p99'] * 1000:.0f} ms"
        f" | {seen['refused'] / seen['seconds']:.0f}/s"
        f" | {seen['refused_p50'] * 1000:.0f} / {seen['refused_p99'] * 1000:.0f} ms"
        f" | {others or ''} | {_more(watch, 'edge') / 1024:+.0f} MiB |"
    )


def _more(watch: Watch, process: str) -> int:
    first: Resources = watch.first[process]
    return watch.most[process].memory_kib - first.memory_kib


def _violations(setting: Setting, share: float, seen: dict[str, Any], watch: Watch) -> list[str]:
    name, lag = f"{share:g} times what is served", max(watch.lag, seen["late"])
    found = []
    if seen["answered_p99"] - lag > ANSWERED_SECONDS:
        found.append(f"{name}: answered after {seen['answered_p99']:.2f} s")
    if seen["refused_p99"] - lag > REFUSED_SECONDS:
        found.append(f"{name}: refused after {seen['refused_p99']:.2f} s")
    if seen["not_told_when"]:
        found.append(f"{name}: {seen['not_told_when']} refused without Retry-After")
    if seen["others"] or seen["broken"]:
        found.append(f"{name}: {seen['others']} {seen['broken']}")
    if share >= 1 and seen["answered"] / seen["seconds"] < GOODPUT_LEAST * setting.per_second:
        found.append(f"{name}: only {seen['answered'] / seen['seconds']:.0f} payments/s were answered")
    grown = [process for process in WATCHED if _more(watch, process) > MEMORY_MORE_KIB_MAX]
    return found + [f"{name}: {process} grew by {_more(watch, process) / 1024:.0f} MiB" for process in grown]
