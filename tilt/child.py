"""One process under supervision: started, kept alive, stopped."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import structlog

from tilt import leash

LOG_BYTES_MAX = 20 * 1024 * 1024
TAIL_BYTES = 4096
TAIL_LINES = 20
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0
STEADY_AFTER_SECONDS = 30.0
READY_POLL_SECONDS = 0.05

log = structlog.get_logger()


class NotReadyError(Exception):
    """A process did not answer in time, or ended before it did."""

    def __init__(self, name: str, reason: str, tail: str) -> None:
        super().__init__(f"{name} {reason}; its log ends with:\n{tail or '(nothing)'}")
        self.name = name
        self.tail = tail


async def at_once() -> bool:
    """Ready as soon as it runs."""
    return True


async def when_done() -> bool:
    """For a job that is not restarted: those after it start once it has ended with status 0."""
    return False


@dataclass(frozen=True)
class Process:
    """What to run, and how to tell that it works."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] | None = None  # the whole environment; None: ours
    ready: Callable[[], Awaitable[bool]] = at_once  # an OSError counts as "not yet"
    restart: bool = True
    after: Sequence[str] = ()  # names of processes that must be ready first
    user: str | None = None
    directory: Path | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    ready_within_seconds: float = 30.0
    stop_within_seconds: float = 10.0


class Child:
    """A process on a leash, in a session of its own; its output goes to a file."""

    def __init__(self, process: Process, log_path: Path) -> None:
        self.process = process
        self.log_path = log_path
        self.pid: int | None = None
        self.restarts = 0
        self._stopping = asyncio.Event()
        self._keeper: asyncio.Task[int] | None = None

    async def start(self) -> None:
        """Start and return once ready; raise NotReadyError if that never happens."""
        self._keeper = asyncio.create_task(self._keep(), name=self.process.name)
        try:
            async with asyncio.timeout(self.process.ready_within_seconds):
                while not await self._is_ready():
                    await asyncio.sleep(READY_POLL_SECONDS)
        except TimeoutError:
            seconds = self.process.ready_within_seconds
            raise self._not_ready(f"was not ready after {seconds:g} s") from None

    async def stop(self) -> None:
        """Ask politely, then kill; return when the whole group is gone."""
        self._stopping.set()
        if self._keeper is None:
            return
        self._signal(self.process.stop_signal)
        self._signal(signal.SIGCONT)  # a halted process would sleep through the first one
        await asyncio.wait([self._keeper], timeout=self.process.stop_within_seconds)
        if not self._keeper.done():
            log.warning("process_killed", process=self.process.name, reason="did not stop")
            self._signal(signal.SIGKILL)
        await self._keeper

    async def _keep(self) -> int:
        """Run it again and again; return the status with which it ended for good."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            started = time.monotonic()
            status = await self._run()
            if self._stopping.is_set():
                return status
            if time.monotonic() - started >= STEADY_AFTER_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            if not self.process.restart:
                log.info("process_ended", process=self.process.name, status=status)
                return status
            log.warning("process_died", process=self.process.name, status=status, pause=pause)
            if await self._stopped_within(pause):
                return status
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            self.restarts += 1

    async def _run(self) -> int:
        with open_log(self.log_path) as output:
            running = await asyncio.create_subprocess_exec(
                *leash.command(self.process.argv, user=self.process.user),
                env=self.process.env,
                cwd=self.process.directory,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=output,
                start_new_session=True,
            )
        self.pid = await _read_pid(running)
        if self._stopping.is_set():  # stop() came while there was no pid to signal
            self._signal(self.process.stop_signal)
        status = await running.wait()
        self.pid = None
        return status

    async def _stopped_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
        return self._stopping.is_set()

    async def _is_ready(self) -> bool:
        if self._keeper is None or self._keeper.done():
            status = self._keeper.result() if self._keeper else None
            if status == 0:
                return True  # a job, done
            raise self._not_ready(f"ended with status {status} before it was ready")
        pid = self.pid
        if pid is None:
            return False
        with contextlib.suppress(OSError):
            # Same pid afterwards: else somebody else's server answered in its place.
            return await self.process.ready() and self.pid == pid
        return False

    def _signal(self, signum: signal.Signals) -> None:
        if self.pid is not None:
            leash.signal_group(self.pid, signum)

    def _not_ready(self, reason: str) -> NotReadyError:
        return NotReadyError(self.process.name, reason, tail(self.log_path))


async def _read_pid(running: asyncio.subprocess.Process) -> int | None:
    line = await running.stdout.readline() if running.stdout else b""
    return int(line) if line else None


def open_log(path: Path) -> IO[bytes]:
    """Open to append; a file that has grown too large becomes `<name>.log.1` first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > LOG_BYTES_MAX:
        path.replace(path.with_name(path.name + ".1"))
    return path.open("ab")


def tail(path: Path) -> str:
    """Return the last lines of a log."""
    if not path.exists():
        return ""
    with path.open("rb") as lines:
        lines.seek(max(0, path.stat().st_size - TAIL_BYTES))
        return "\n".join(lines.read().decode(errors="replace").splitlines()[-TAIL_LINES:])
