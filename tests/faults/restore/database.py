"""A base backup of the world's PostgreSQL, and its server brought back from it."""

import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path

from tests.acceptance.system import System, until
from tilt.servers import postgres

RESTART_SECONDS = 60


class Way(StrEnum):
    """How the directory comes back."""

    COPY = "a copy, on the same timeline"
    RECOVERY = "a recovery, which begins another timeline"


@dataclass(frozen=True)
class Backup:
    directory: Path

    @classmethod
    def take(cls, system: System) -> "Backup":
        """Take a base backup while everybody goes on writing."""
        world = system.world
        directory = world.directory / "backup"
        remove(directory)
        directory.mkdir(mode=0o700)
        if user := postgres.system_user():
            shutil.chown(directory, user)
        program = str(postgres.program("pg_basebackup"))
        options = ["--checkpoint=fast", "--wal-method=stream", "--no-sync", "--no-password"]
        source = world.dsn(database="postgres")
        subprocess.run(
            [program, f"--pgdata={directory}", f"--dbname={source}", *options],
            env=dict(postgres.ENVIRONMENT),
            user=user,
            group=user,
            extra_groups=() if user else None,
            check=True,
            capture_output=True,
        )
        return cls(directory)

    async def restore(self, system: System, way: Way, *, destroy_bus: bool) -> None:
        """Kill the server, put the backup in the place of its data, and let it start."""
        if way is Way.RECOVERY:
            self._make_recover()
        names = ["postgres", *(["nats"] if destroy_bus else [])]
        killed = {name: system.kill(name) for name in names}
        for pid in killed.values():
            await until("it is dead", partial(is_gone, pid), seconds=10)
        replace(self.directory, system.world.directory / "postgres")
        if destroy_bus:
            remove(system.world.directory / "nats")
        for name, pid in killed.items():
            await until(f"{name} runs again", partial(runs_again, system, name, pid), seconds=RESTART_SECONDS)

    def _make_recover(self) -> None:
        """There is no archive beyond the backup: recovery ends with it, on a new timeline."""
        with (self.directory / "postgresql.auto.conf").open("a") as settings:
            settings.write("restore_command = 'false'\n")
        (self.directory / "recovery.signal").touch()
        if user := postgres.system_user():
            shutil.chown(self.directory / "recovery.signal", user)


def replace(source: Path, target: Path) -> None:
    """In two steps so short that no server starts in between."""
    gone = target.with_suffix(".gone")
    target.rename(gone)
    source.rename(target)
    shutil.rmtree(gone)


def remove(directory: Path) -> None:
    if directory.exists():
        gone = directory.with_suffix(".gone")
        directory.rename(gone)
        shutil.rmtree(gone)


async def runs_again(system: System, name: str, old_pid: int) -> bool:
    return system.supervisor.pid(name) not in {None, old_pid}


async def is_gone(pid: int) -> bool:
    """Whether the leash's whole group is dead."""
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return True
    os.killpg(pid, signal.SIGKILL)
    return False
