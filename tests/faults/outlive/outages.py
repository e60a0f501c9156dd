"""Taking parts of us away: killed, halted, restarted one after the other, failed over."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

import psycopg

from tests.acceptance.system import System, until
from tests.faults.outlive.world import OutliveWorld
from tilt.servers import nats, postgres

READY_SECONDS = 180.0  # on a busy machine
PROBE_SECONDS = 0.01
CONNECT_SECONDS = 2
STANDBY = "postgres-2"


@dataclass
class Parts:
    """The processes of a running world by what they do, and what can be done to them."""

    system: System
    world: OutliveWorld
    commits: "Commits"

    def of(self, part: str) -> list[str]:
        """All processes that do the same."""
        if part == "postgres":
            return [server.name for server in self.world.postgres_pair.servers]
        return self.world.replicas_of(part) if part in REPLICATED else [part]

    async def kill_one(self, part: str) -> None:
        """`kill -9` of the first; it is started again and has to be ready."""
        await self._end(self.of(part)[0], signal.SIGKILL)

    async def restart_each(self, part: str) -> None:
        """Stop one in order and wait until it is ready again, then the next."""
        for name in self.of(part):
            await self._end(name, signal.SIGTERM)

    async def restart_postgres(self) -> None:
        """Restart the primary, while the standby stays one."""
        pair = self.world.postgres_pair
        await self._end(pair.primary.name, postgres.STOP_SIGNAL)
        await until("the standby follows", pair.is_ready, seconds=READY_SECONDS)

    async def fail_over(self) -> None:
        """Kill the primary, promote the standby, and let the other come back as the standby."""
        pair = self.world.postgres_pair
        gone = pair.primary.name
        pid = self.system.kill(gone)
        await asyncio.to_thread(pair.promote)
        await self._until_ready(gone, pid)
        await until("there is a standby again", pair.is_ready, seconds=READY_SECONDS)

    @contextmanager
    def halted(self, names: Sequence[str]) -> Iterator[None]:
        """SIGSTOP, and SIGCONT at the end; with all their children."""
        pids = [pid for name in names if (root := self.system.supervisor.pid(name)) for pid in _tree(root)]
        try:
            for pid in pids:
                _signal(pid, signal.SIGSTOP)
            yield
        finally:
            for pid in reversed(pids):
                _signal(pid, signal.SIGCONT)

    async def _end(self, name: str, signum: signal.Signals) -> None:
        await self._until_ready(name, self.system.signal(name, signum))

    async def _until_ready(self, name: str, old_pid: int) -> None:
        async def ready() -> bool:
            return self.system.supervisor.pid(name) not in {None, old_pid} and await self._is_ready(name)

        await until(f"{name} is ready again", ready, seconds=READY_SECONDS)

    async def _is_ready(self, name: str) -> bool:
        if name.startswith("postgres"):
            return await asyncio.to_thread(_takes_connections, self.world.slot.port(name))
        if name == "nats":
            return await nats.is_ready(self.world.slot.port(name))
        if name == "rpc":
            return True
        return (await self.system.send("GET", f"{self.world.health_url(name)}/readyz")).status == 200


REPLICATED = frozenset({"edge", "signer", "quota", "accounts", "metering", "signer-relay", "deposit_watcher"})


@dataclass
class Commits:
    """Commits as fast as it can, and knows the longest time in which nobody could."""

    dsn: str
    longest: float = 0.0
    _last: float = field(default_factory=time.monotonic)
    _stopping: Event = field(default_factory=Event)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        writer = Thread(target=self._write, daemon=True)
        writer.start()
        try:
            yield
        finally:
            self._stopping.set()
            writer.join()

    def forget(self) -> None:
        self._last, self.longest = time.monotonic(), 0.0

    def _write(self) -> None:
        while not self._stopping.is_set():
            with (
                suppress(psycopg.Error),
                psycopg.connect(self.dsn, autocommit=True, connect_timeout=CONNECT_SECONDS) as connection,
            ):
                connection.execute("CREATE TABLE IF NOT EXISTS public.commits (number bigint)")
                while not self._stopping.is_set():
                    connection.execute("INSERT INTO public.commits VALUES (1)")
                    self._note()
                    time.sleep(PROBE_SECONDS)
            time.sleep(PROBE_SECONDS)

    def _note(self) -> None:
        now = time.monotonic()
        self.longest = max(self.longest, now - self._last)
        self._last = now


def _tree(pid: int) -> list[int]:
    """A process and all its descendants, parents first."""
    found = [pid]
    for parent in found:
        found += [child for child, of in _parents() if of == parent]
    return found


def _parents() -> Iterator[tuple[int, int]]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            # pid (name, which may hold anything) state parent …
            yield int(path.parent.name), int(path.read_text(errors="replace").rpartition(")")[2].split()[1])


def _signal(pid: int, signum: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signum)


def _takes_connections(port: int) -> bool:
    """Whether a server greets at all: it is not asked for a password."""
    try:
        psycopg.connect(host="127.0.0.1", port=port, user="nobody", connect_timeout=CONNECT_SECONDS).close()
    except psycopg.OperationalError as problem:
        return "no password supplied" in str(problem)
    return True
