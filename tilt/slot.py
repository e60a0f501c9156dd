"""Slots: a numbered directory with state, ports and secrets, for one run at a time.

A second run beside the first takes the next number; a restart finds the first free one again.
"""

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from tilt import memory
from tilt.servers.ports import Ports

PORTS_PER_SLOT = 100
FIRST_PORT = 20_000  # below what systems hand out for outgoing connections
SECRET_BYTES = 24


class Slot:
    """A directory that is ours until `release`, or until the process ends."""

    def __init__(self, directory: Path, lock: int, first_port: int) -> None:
        self.number = int(directory.name)
        self.directory = directory
        self._lock = lock
        self._ports = Ports(directory / "ports.json", range(first_port, first_port + PORTS_PER_SLOT))
        self._secrets_path = directory / "secrets.json"
        self._secrets = memory.load(self._secrets_path, str)

    def port(self, name: str) -> int:
        """Return the port of that name, the same in each run while nobody else has taken it."""
        return self._ports.port(name)

    def secret(self, name: str) -> str:
        """Return the password of that name, made at its first use and kept in `secrets.json`."""
        if name not in self._secrets:
            self._secrets[name] = secrets.token_urlsafe(SECRET_BYTES)
            memory.keep(self._secrets_path, self._secrets)
        return self._secrets[name]

    def wipe(self) -> None:
        """Remove all files of the slot but its lock, and forget what they held."""
        _empty(self.directory)
        self._secrets.clear()
        self._ports.forget()

    def release(self) -> None:
        os.close(self._lock)


def take(root: Path, *, first_port: int = FIRST_PORT) -> Slot:
    """Take the first slot under `root` that no other run holds."""
    number = 1
    while True:
        directory = root / str(number)
        directory.mkdir(parents=True, exist_ok=True)
        lock = _lock(directory)
        if lock is not None:
            return Slot(directory, lock, first_port + (number - 1) * PORTS_PER_SLOT)
        number += 1


def remove_free_slots(root: Path) -> Iterator[Path]:
    """Remove each slot that no run holds, and yield its directory."""
    for directory in sorted(root.glob("[0-9]*")):
        lock = _lock(directory)
        if lock is None:
            continue
        try:
            shutil.rmtree(directory)
            yield directory
        finally:
            os.close(lock)


def _lock(directory: Path) -> int | None:
    """Lock the directory; None if another run holds it or has just removed it."""
    path = directory / "lock"
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.stat().st_ino == os.fstat(handle).st_ino:
            return handle
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(handle)
    return None


def _empty(directory: Path) -> None:
    for path in directory.iterdir():
        if path.name == "lock":
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
