"""Small programs to supervise, and ways to see what became of them."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.beside import until
from tilt.child import tail
from tilt.supervisor import Supervisor

PYTHON = (sys.executable, "-I", "-S", "-c")
SLEEP = (*PYTHON, "import time; time.sleep(600)")
STUBBORN = (*PYTHON, "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)")
SPAWN = (
    "import subprocess, sys, time; sleep = 'import time; time.sleep(600)'; "
    "child = subprocess.Popen([sys.executable, '-c', sleep], start_new_session=True); "
    "print(child.pid, flush=True); time.sleep(600)"
)
PARENT = (*PYTHON, SPAWN)  # starts one that moves to a session of its own, and says which


def when(event: asyncio.Event) -> Callable[[], Awaitable[bool]]:
    async def ready() -> bool:
        return event.is_set()

    return ready


def says_ready(log_path: Path) -> Callable[[], Awaitable[bool]]:
    async def ready() -> bool:
        return "ready" in tail(log_path)

    return ready


def pid_of(supervisor: Supervisor, name: str) -> int:
    pid = supervisor.pid(name)
    assert pid is not None
    return pid


async def printed_pid(log_path: Path) -> int:
    await until(lambda: log_path.exists() and b"\n" in log_path.read_bytes())
    return int(tail(log_path).split()[-1])


def is_alive(pid: int | None) -> bool:
    """Tell whether the process runs; one that is dead but not collected does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
