"""`make run`: two runs side by side, each in a slot of its own, and neither leaves a process behind."""

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[2]
SUMMARY_KEYS = {
    "ok",
    "payments",
    "tickets",
    "tickets_accepted",
    "winners_redeemed",
    "ev_wei",
    "cost_wei",
    "fee_wei",
    "usage_wei",
    "started_in_s",
}
STARTED = re.compile(r"Starting the clearinghouse in (\S+) ")
STAYS = "Ctrl-C stops everything"
RUN_SECONDS = 100
STOP_SECONDS = 30

type ProcessId = tuple[int, str]  # the pid and when it started, as pids come again


@dataclass
class Run:
    """One `make run`, read line by line."""

    process: asyncio.subprocess.Process
    lines: list[str] = field(default_factory=list)
    seen: set[ProcessId] = field(default_factory=set)  # every process it was found to have

    @property
    def slot(self) -> str:
        return next(match[1] for line in self.lines if (match := STARTED.match(line)))

    async def read_until(self, text: str | None = None) -> None:
        """Read to the line with this text, or to the end, and note what runs meanwhile."""
        assert self.process.stdout is not None
        async with asyncio.timeout(RUN_SECONDS):
            while line := (await self.process.stdout.readline()).decode():
                self.lines.append(line.rstrip("\n"))
                self.seen |= _descendants(self.process.pid)
                if text is not None and text in line:
                    return

    async def interrupt(self) -> int:
        """Press Ctrl-C; return the status it ends with."""
        os.killpg(self.process.pid, signal.SIGINT)
        async with asyncio.timeout(STOP_SECONDS):
            await self.read_until()
            return await self.process.wait()

    @property
    def left_behind(self) -> set[ProcessId]:
        return {process for process in self.seen if _started_at(process[0]) == process[1]}


@asynccontextmanager
async def make_run(*arguments: str) -> AsyncIterator[Run]:
    process = await asyncio.create_subprocess_exec(
        "make",
        "run",
        *arguments,
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    run = Run(process)
    try:
        yield run
    finally:
        if process.returncode is None:
            await run.interrupt()


async def test_two_runs_take_two_slots_and_leave_nothing_behind() -> None:
    async with make_run() as staying, make_run("ONCE=1") as once:
        await asyncio.gather(once.read_until(), staying.read_until(STAYS))
        status = await once.process.wait()
        stopped = await staying.interrupt()

    summary = json.loads(once.lines[-1])
    assert status == 0, "\n".join(once.lines)
    assert summary["ok"] is True
    assert set(summary) == SUMMARY_KEYS
    assert summary["payments"] > 0
    assert summary["cost_wei"] == summary["usage_wei"]
    assert summary["tickets"] == summary["tickets_accepted"]
    assert stopped in {0, -signal.SIGINT, 2}  # make says of itself that it was interrupted
    assert staying.slot != once.slot
    assert min(len(staying.seen), len(once.seen)) > 20  # servers, services, and a leash for each
    assert staying.left_behind | once.left_behind == set()


def _descendants(pid: int) -> set[ProcessId]:
    """All processes below this one, now."""
    parents: dict[int, list[ProcessId]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        if (fields := _stat(path)) is not None:
            parents.setdefault(int(fields[1]), []).append((int(path.parent.name), fields[19]))
    found: set[ProcessId] = set()
    waiting = [pid]
    while waiting:
        for process in parents.get(waiting.pop(), []):
            found.add(process)
            waiting.append(process[0])
    return found


def _started_at(pid: int) -> str | None:
    fields = _stat(Path(f"/proc/{pid}/stat"))
    return fields[19] if fields is not None and fields[0] != "Z" else None


def _stat(path: Path) -> list[str] | None:
    """The fields behind the name: state, parent, …, and as the twentieth the start."""
    try:
        return path.read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
