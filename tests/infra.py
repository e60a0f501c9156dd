"""Real servers for tests: embedded ones from wheels, or official images in containers.

`TEST_INFRA=containers` takes the images, where a Docker engine answers. Either way a test sees the
same two things: a `Postgres` that makes databases, and a `Nats` with the users it asked for.
"""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from services.provisioner import databases
from tilt import leash
from tilt.child import open_log, tail
from tilt.servers import nats, postgres
from tilt.servers.waiting import NoAnswerError
from tilt.slot import Slot, take

FIRST_PORT = 28_000  # away from the slots of `make run`
STOP_TIMEOUT_SECONDS = 20
POSTGRES_IMAGE = "postgres:18"
POSTGRES_PORT = 5432
NATS_IMAGE = "nats:2.15"
NATS_PORT = 4222


@dataclass(frozen=True)
class Database:
    """A database of its own; each role owns the schema of its name in it."""

    name: str
    address: postgres.Address
    passwords: Mapping[str, str]  # by role, the superuser's among them

    def dsn(self, role: str = postgres.SUPERUSER) -> str:
        return self.address.dsn(role=role, password=self.passwords[role], database=self.name)


@dataclass(frozen=True)
class Postgres:
    """A running server."""

    address: postgres.Address
    password: str

    @property
    def admin_dsn(self) -> str:
        return self.address.dsn(role=postgres.SUPERUSER, password=self.password)

    @contextmanager
    def database(self, *roles: str) -> Iterator[Database]:
        """Make a fresh database with these roles, and drop it afterwards."""
        name = f"test_{secrets.token_hex(6)}"
        # Roles are the server's, not the database's: the same password for each test.
        passwords = {role: f"{role}-{self.password}" for role in roles}
        databases.ensure_roles(self.admin_dsn, passwords)
        databases.ensure_database(self.admin_dsn, name)
        made = Database(name, self.address, {**passwords, postgres.SUPERUSER: self.password})
        databases.ensure_schemas(made.dsn(), roles)
        try:
            yield made
        finally:
            databases.drop_database(self.admin_dsn, name)


@dataclass(frozen=True)
class Nats:
    """A running server with JetStream, empty at first."""

    host: str
    port: int
    users: Mapping[str, nats.User]  # by name, "admin" among them

    def url(self, user: str = "admin") -> str:
        """Return the URL that logs this user in."""
        return f"nats://{user}:{self.users[user].password}@{self.host}:{self.port}"


@cache
def uses_containers() -> bool:
    return os.environ.get("TEST_INFRA") == "containers" and _docker_answers()


@contextmanager
def own_slot() -> Iterator[Slot]:
    """Take a directory for the servers of this session, empty before and after."""
    root = Path(tempfile.gettempdir()) / f"clearinghouse-tests-{os.geteuid()}"
    slot = take(root, first_port=FIRST_PORT)
    slot.wipe()
    try:
        yield slot
    finally:
        keep_outputs(slot.directory)
        slot.wipe()
        slot.release()


def keep_outputs(directory: Path) -> None:
    """Where TESTS_KEEP names a directory: copy there what processes printed, and the secrets they had."""
    if not (target := os.environ.get("TESTS_KEEP")):
        return
    kept = Path(target) / secrets.token_hex(6)
    for pattern in ("*.log", "*.log.1", "secrets.json", "*.key"):
        for path in directory.rglob(pattern):
            copy = kept / path.relative_to(directory)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def run_postgres(slot: Slot) -> AbstractContextManager[Postgres]:
    password = slot.secret("postgres")
    return _postgres_container(password) if uses_containers() else _postgres_here(slot, password)


def run_nats(slot: Slot, users: Sequence[nats.User] = ()) -> AbstractContextManager[Nats]:
    """Run a server that knows these users and "admin"; its store is empty and goes with it."""
    everybody = (nats.admin(slot.secret("nats-admin")), *users)
    return (_nats_container if uses_containers() else _nats_here)(slot, everybody)


@contextmanager
def running(argv: Sequence[str], log_path: Path, *, user: str | None = None) -> Iterator[int]:
    """Run a server that dies with us, and stop it at the end; gives its process id."""
    with (
        open_log(log_path) as log,
        subprocess.Popen(
            leash.command(argv, user=user),
            stdin=subprocess.PIPE,  # its end is the end of the server
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        ) as process,
    ):
        try:
            yield int(process.stdout.readline()) if process.stdout else 0
        except NoAnswerError as error:
            error.add_note(tail(log_path))
            raise
        finally:
            process.send_signal(postgres.STOP_SIGNAL)  # nats-server takes it, too
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_TIMEOUT_SECONDS)


@contextmanager
def _postgres_here(slot: Slot, password: str) -> Iterator[Postgres]:
    data_dir, port = slot.directory / "postgres", slot.port("postgres")
    postgres.prepare(data_dir, password=password)
    server = Postgres(postgres.Address("127.0.0.1", port), password)
    log_path = slot.directory / "postgres.log"
    with running(postgres.argv(data_dir, port), log_path, user=postgres.system_user()):
        postgres.wait_until_ready(server.admin_dsn)
        yield server


@contextmanager
def _nats_here(slot: Slot, users: Sequence[nats.User]) -> Iterator[Nats]:
    port = slot.port("nats")
    with tempfile.TemporaryDirectory(dir=slot.directory, prefix="nats-") as name:
        config_path = Path(name) / "nats.conf"
        nats.Config(Path(name) / "store", port, users).write(config_path)
        with running(nats.argv(config_path), Path(name) / "nats.log"):
            nats.wait_until_ready(port)
            yield _nats("127.0.0.1", port, users)


@contextmanager
def _postgres_container(password: str) -> Iterator[Postgres]:
    from testcontainers.community.postgres import PostgresContainer  # noqa: PLC0415 - slow

    settings = [option for item in postgres.SETTINGS.items() for option in ("-c", "=".join(item))]
    container = PostgresContainer(
        POSTGRES_IMAGE, username=postgres.SUPERUSER, password=password, dbname="postgres"
    )
    container.with_env("POSTGRES_INITDB_ARGS", " ".join(postgres.INITDB_OPTIONS))
    container.with_command(["postgres", *settings])
    with container:
        port = int(container.get_exposed_port(POSTGRES_PORT))
        server = Postgres(postgres.Address(container.get_container_host_ip(), port), password)
        postgres.wait_until_ready(server.admin_dsn)
        yield server


@contextmanager
def _nats_container(slot: Slot, users: Sequence[nats.User]) -> Iterator[Nats]:
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - slow

    with tempfile.TemporaryDirectory(dir=slot.directory, prefix="nats-") as name:
        config_path = Path(name) / "nats.conf"
        nats.Config(Path("/data"), NATS_PORT, users, host="0.0.0.0").write(config_path)
        container = DockerContainer(NATS_IMAGE).with_command("--config /nats.conf")
        container.with_exposed_ports(NATS_PORT)
        container.with_volume_mapping(config_path, "/nats.conf", "ro")
        with container:
            host, port = container.get_container_host_ip(), int(container.get_exposed_port(NATS_PORT))
            nats.wait_until_ready(port, host=host)
            yield _nats(host, port, users)


def _nats(host: str, port: int, users: Sequence[nats.User]) -> Nats:
    return Nats(host, port, {user.name: user for user in users})


def _docker_answers() -> bool:
    # In a process of its own: the client leaves its socket open, and here warnings are errors.
    ping = "from testcontainers.core.docker_client import DockerClient; DockerClient().client.ping()"
    done = subprocess.run([sys.executable, "-c", ping], capture_output=True, check=False)
    return done.returncode == 0
