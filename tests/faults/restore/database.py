"""Backups of the world's PostgreSQL: of the whole server, or of the signer's schema; and the way back."""

import asyncio
import shutil
import signal
import subprocess
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path

import psycopg

from tests.acceptance.system import System, until
from tilt.servers import postgres

SERVICE = "signer"
RESTART_SECONDS = 60


class Way(StrEnum):
    """How the directory comes back."""

    COPY = "a copy, on the same timeline"
    RECOVERY = "a recovery, which begins another timeline"
    SCHEMA = "the signer's schema alone"


@dataclass(frozen=True)
class Backup:
    """Of a whole server."""

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
        options = ["--checkpoint=fast", "--wal-method=stream", "--no-sync", "--no-password"]
        source = world.dsn(database="postgres")
        _run("pg_basebackup", f"--pgdata={directory}", f"--dbname={source}", *options)
        return cls(directory)

    async def restore(self, system: System, way: Way, *, destroy_bus: bool) -> None:
        """Kill the server, with the backup in the place of its data, and let it start.

        It is stopped before, so that nothing starts on what is half exchanged.
        """
        if way is Way.RECOVERY:
            self._make_recover()
        names = ["postgres", *(["nats"] if destroy_bus else [])]
        stopped = {name: system.signal(name, signal.SIGSTOP) for name in names}
        gone = [replace(system.world.directory / "postgres", self.directory)]
        if destroy_bus:
            gone.append(replace(system.world.directory / "nats"))
        for name in names:
            system.kill(name)
        for name, pid in stopped.items():
            await until(f"{name} runs again", partial(runs_again, system, name, pid), seconds=RESTART_SECONDS)
        for directory in gone:
            await asyncio.to_thread(shutil.rmtree, directory)

    def _make_recover(self) -> None:
        """There is no archive beyond the backup: recovery ends with it, on a new timeline."""
        with (self.directory / "postgresql.auto.conf").open("a") as settings:
            settings.write("restore_command = 'false'\n")
        (self.directory / "recovery.signal").touch()
        if user := postgres.system_user():
            shutil.chown(self.directory / "recovery.signal", user)


@dataclass(frozen=True)
class SchemaBackup:
    """Of the signer's schema; the others' databases run on, and are further than it."""

    file: Path

    @classmethod
    def take(cls, system: System) -> "SchemaBackup":
        file = Path(f"{system.world.directory / 'backup'}.sql")
        script = _run("pg_dump", f"--schema={SERVICE}", f"--dbname={system.world.dsn()}").stdout
        file.write_bytes(b"DROP SCHEMA signer CASCADE;\n" + script)
        return cls(file)

    async def restore(self, system: System, _: Way, *, destroy_bus: bool) -> None:
        """As an operator is told to: nobody of the service may be connected meanwhile."""
        assert not destroy_bus
        dsn = system.world.dsn()
        await asyncio.to_thread(self._exchange, dsn)

    def _exchange(self, dsn: str) -> None:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("ALTER ROLE signer NOLOGIN")
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'signer'"
            )
            script = self.file.read_bytes()
            _run("psql", "--single-transaction", "--set=ON_ERROR_STOP=1", f"--dbname={dsn}", given=script)
            connection.execute("ALTER ROLE signer LOGIN")


def _run(name: str, *options: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    user = postgres.system_user()
    return subprocess.run(
        [str(postgres.program(name)), *options],
        env=dict(postgres.ENVIRONMENT),
        user=user,
        group=user,
        extra_groups=() if user else None,
        check=True,
        capture_output=True,
        input=given,
    )


def replace(target: Path, source: Path | None = None) -> Path:
    """Put a directory, or nothing, in another's place; returns where that is now."""
    gone = target.with_suffix(".gone")
    target.rename(gone)
    if source is not None:
        source.rename(target)
    return gone


def remove(directory: Path) -> None:
    if directory.exists():
        gone = directory.with_suffix(".gone")
        directory.rename(gone)
        shutil.rmtree(gone)


async def runs_again(system: System, name: str, old_pid: int) -> bool:
    return system.supervisor.pid(name) not in {None, old_pid}
