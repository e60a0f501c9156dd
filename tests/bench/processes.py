"""Processor time of the processes of a supervisor, from /proc."""

import os
from pathlib import Path

from tilt.supervisor import Supervisor

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
NAMES = (
    "edge",
    "signer",
    "signer-relay",
    "quota",
    "metering",
    "accounts",
    "deposit_watcher",
    "postgres",
    "nats",
)


def cpu_seconds(supervisor: Supervisor) -> dict[str, float]:
    """User and system time by process, of its children too (PostgreSQL has one per connection)."""
    children = _children()
    return {name: _tree_seconds(supervisor.pid(name), children) for name in NAMES}


def _tree_seconds(pid: int | None, children: dict[int, list[int]]) -> float:
    if pid is None:
        return 0.0
    return _seconds(pid) + sum(_tree_seconds(child, children) for child in children.get(pid, []))


def _children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        fields = _fields(path)
        if fields:
            found.setdefault(int(fields[1]), []).append(int(path.parent.name))
    return found


def _seconds(pid: int) -> float:
    fields = _fields(Path(f"/proc/{pid}/stat"))
    return sum(int(field) for field in fields[11:15]) / TICKS_PER_SECOND if fields else 0.0


def _fields(path: Path) -> list[str]:
    """What follows the name; the parent is the second of them, the four times 11 to 14."""
    try:
        return path.read_text().rpartition(")")[2].split()
    except OSError:
        return []
