"""What our processes take of the machine: memory, threads, open files; read from /proc."""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.faults.hangs.halting import tree
from tilt.supervisor import Supervisor

SAMPLE_SECONDS = 0.5
TICK_SECONDS = 0.05
PAGE_KIB = 4


@dataclass(frozen=True)
class Resources:
    """Of one process, or the most of several samples of it."""

    threads: int = 0
    files: int = 0  # sockets among them
    memory_kib: int = 0

    @classmethod
    def of(cls, pid: int) -> Self:
        """Nothing, if the process is gone."""
        process = Path(f"/proc/{pid}")
        try:
            files = sum(1 for _ in (process / "fd").iterdir())
            threads = sum(1 for _ in (process / "task").iterdir())
            memory_kib = int((process / "statm").read_text().split()[1]) * PAGE_KIB
        except (FileNotFoundError, ProcessLookupError):
            return cls()
        return cls(threads, files, memory_kib)

    def most(self, other: "Resources") -> "Resources":
        return Resources(
            max(self.threads, other.threads),
            max(self.files, other.files),
            max(self.memory_kib, other.memory_kib),
        )


class Watch:
    """Samples processes for as long as it runs, and keeps the most each has taken."""

    def __init__(self, supervisor: Supervisor, processes: Iterable[str]) -> None:
        self._supervisor = supervisor
        self._processes = list(processes)
        self.first = self._sample()
        self.most = self.first
        self.most_backends = self.backends()
        self.lag = 0.0  # seconds

    async def run(self) -> None:
        while True:
            await asyncio.sleep(SAMPLE_SECONDS)
            now = self._sample()
            self.most = {name: self.most[name].most(now[name]) for name in now}
            self.most_backends = max(self.most_backends, self.backends())

    async def feel(self) -> None:
        """Notice how long the machine keeps us waiting: what clients see is late by that."""
        while True:
            began = time.monotonic()
            await asyncio.sleep(TICK_SECONDS)
            self.lag = max(self.lag, time.monotonic() - began - TICK_SECONDS)

    def backends(self) -> int:
        """How many processes PostgreSQL has: one a connection."""
        pid = self._supervisor.pid("postgres")
        return len(tree(pid)) if pid is not None else 0

    def _sample(self) -> dict[str, Resources]:
        return {
            name: Resources.of(pid) if (pid := self._supervisor.pid(name)) is not None else Resources()
            for name in self._processes
        }
