"""Halts processes as a hung machine would: SIGSTOP, and SIGCONT whatever happens meanwhile."""

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tilt.supervisor import Supervisor


@contextmanager
def halted(supervisor: Supervisor, processes: Sequence[str]) -> Iterator[None]:
    """Halt these and all they have started: PostgreSQL is a process for each connection."""
    pids = [pid for process in processes if (pid := supervisor.pid(process)) is not None]
    assert len(pids) == len(processes), processes
    with halted_trees(pids):
        yield


@contextmanager
def halted_trees(roots: Sequence[int]) -> Iterator[None]:
    pids: list[int] = []
    try:
        for root in roots:
            pids += _halt_tree(root)
        yield
    finally:
        for pid in reversed(pids):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def tree(root: int) -> list[int]:
    """A process and all its descendants, parents first."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            parent = int(path.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def _halt_tree(root: int) -> list[int]:
    """The root first: once it is halted it starts no more."""
    os.kill(root, signal.SIGSTOP)
    pids = tree(root)
    for pid in pids[1:]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    return pids
