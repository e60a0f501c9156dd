"""Kills the process groups that a dead supervisor leaves behind.

The death signal of `leash` reaches the process we started, not what that one started in turn
(npm starts node, node starts anvil). The guard is told each group through a pipe, and the end of
the pipe is the end of the supervisor, however it died.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress


class Guard:
    """The supervisor's end of the pipe."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own file
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C on the terminal is not for the guard
        )

    def add(self, group: int) -> None:
        self._tell(f"+{group}\n")

    def remove(self, group: int) -> None:
        self._tell(f"-{group}\n")

    def close(self) -> None:
        self._process.communicate()

    def _tell(self, line: str) -> None:
        pipe = self._process.stdin
        if pipe is None:
            return
        with suppress(BrokenPipeError):  # the guard was killed: the death signal is left
            pipe.write(line.encode())
            pipe.flush()


def watch(lines: Iterable[str]) -> None:
    """Follow the groups until the lines end, then kill those that are left."""
    groups: set[int] = set()
    for line in lines:
        sign, group = line[0], int(line[1:])
        (groups.add if sign == "+" else groups.discard)(group)
    for group in groups:
        kill_group(group, signal.SIGKILL)


def kill_group(group: int, signum: int) -> None:
    """Signal all of a group; that it is gone already is fine."""
    with suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for zombies
        os.killpg(group, signum)


if __name__ == "__main__":
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    watch(sys.stdin)
