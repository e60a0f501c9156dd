"""TCP ports: free ones of a range, chosen once per name and remembered."""

import socket
import time
from pathlib import Path

from tilt import memory

PATIENCE_SECONDS = 2.0


class NoFreePortError(Exception):
    """Every port of the range is taken."""


class Ports:
    """The ports of one slot, kept in a file. Make it before anything of the slot runs."""

    def __init__(self, path: Path, available: range) -> None:
        self._path = path
        self._available = available
        remembered = memory.load(path, int)
        # What a killed run has left may need a moment to go; a stranger's port is given up.
        self._ports = {n: p for n, p in remembered.items() if p in available and _gets_free(p)}

    def port(self, name: str) -> int:
        if name not in self._ports:
            self._ports[name] = self._choose()
            memory.keep(self._path, self._ports)
        return self._ports[name]

    def forget(self) -> None:
        self._ports.clear()

    def _choose(self) -> int:
        taken = set(self._ports.values())
        for port in self._available:
            if port not in taken and is_free(port):
                return port
        raise NoFreePortError(f"no free port from {self._available[0]} to {self._available[-1]}")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _gets_free(port: int) -> bool:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_free(port):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
