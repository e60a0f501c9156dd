"""A NATS server that can be stopped, killed, wiped, and whose files can rot."""

import os
import secrets
import shutil
import signal
from collections.abc import Sequence
from contextlib import ExitStack
from random import Random

from tests import infra
from tilt.servers import nats
from tilt.servers.waiting import NoAnswerError
from tilt.slot import Slot

START_SECONDS = 10.0


class BusServer:
    """Always embedded, also where other tests use containers: its files have to be in reach."""

    def __init__(self, slot: Slot, users: Sequence[nats.User]) -> None:
        self._directory = slot.directory / f"chain-nats-{secrets.token_hex(4)}"
        self._config = self._directory / "nats.conf"
        self._store = self._directory / "store"
        self._port = slot.port("chain-nats")
        everybody = (nats.admin(slot.secret("nats-admin")), *users)
        self._passwords = {user.name: user.password for user in everybody}
        nats.Config(self._store, self._port, everybody).write(self._config)
        self._running = ExitStack()
        self._pid = 0

    def url(self, user: str = "admin") -> str:
        return f"nats://{user}:{self._passwords[user]}@127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it; a store that it cannot read any more is taken away, as an operator would."""
        try:
            self._start()
        except NoAnswerError:
            self._running.close()
            self.wipe()
            self._start()

    def stop(self) -> None:
        self._running.close()

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        self._running.close()

    def wipe(self) -> None:
        shutil.rmtree(self._store, ignore_errors=True)

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def rot(self, random: Random, flips: int) -> int:
        """Flip bits in what the streams' files hold, the server being stopped; how many were flipped."""
        files = [path for path in sorted(self._store.rglob("*.blk")) if path.stat().st_size]
        for _ in range(flips if files else 0):
            path = random.choice(files)
            data = bytearray(path.read_bytes())
            place = random.randrange(len(data))
            data[place] ^= 1 << random.randrange(8)
            path.write_bytes(data)
        return flips if files else 0

    def _start(self) -> None:
        self._running = ExitStack()
        log_path = self._directory / "nats.log"
        self._pid = self._running.enter_context(infra.running(nats.argv(self._config), log_path))
        nats.wait_until_ready(self._port, timeout_seconds=START_SECONDS)
