"""Two PostgreSQL servers, one streaming from the other, that can change roles.

    pair = Pair((first, second), directory / "postgres-primary", password)
    pair.prepare()                         # the first is primary
    Process("postgres", pair.argv(first), pair.environment, …)
    Process("postgres-2", pair.argv(second), pair.environment, …)
    pair.is_synchronous()                  # once true, a commit is on both disks
    …the primary is killed…
    pair.promote()                         # the first comes back as a standby of the second

A file names who is primary. A server that starts and is not named there makes itself a copy of the
one who is: so a primary that was killed, and is started again after the fail-over, never serves
its old timeline (in production that is the business of whatever runs the fail-over).
"""

import asyncio
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Literal

from tilt.servers import postgres

PROMOTION_SECONDS = 30
CLIENT_ENVIRONMENT: Mapping[str, str] = {"PGTARGETSESSIONATTRS": "read-write"}
COPIED = "copied"  # a file in the data of a standby whose copy is whole

# As the system user of the servers: become a copy of the primary unless it is me or I am one; then run.
START = """
cd {data}
if [ "$(cat {named})" != {me} ] && ! [ -e {copied} -a -e standby.signal ]; then
    until find . -mindepth 1 -delete && {basebackup} -D . -R -X stream -c fast -d {primary}; do
        sleep 0.5
    done
    sed -i /^synchronous_standby_names/d postgresql.auto.conf
    touch {copied}
fi
exec {server}
"""


@dataclass(frozen=True)
class Server:
    name: str
    data: Path
    port: int

    @property
    def application_name(self) -> str:
        """How it calls itself at its primary: a name that needs no quotes in a setting."""
        return self.name.replace("-", "_")


@dataclass(frozen=True)
class Pair:
    """Two servers; `named` is the file that says which of them is primary."""

    servers: tuple[Server, Server]
    named: Path
    password: str

    @property
    def environment(self) -> Mapping[str, str]:
        return {**postgres.ENVIRONMENT, "PGPASSWORD": self.password}

    @property
    def primary(self) -> Server:
        name = self.named.read_text()
        return next(server for server in self.servers if server.name == name)

    @property
    def standby(self) -> Server:
        return next(server for server in self.servers if server is not self.primary)

    def dsn(self, *, role: str, password: str, database: str) -> str:
        """Name both; who connects takes the one that may be written to."""
        ports = [str(server.port) for server in self.servers]
        return make_conninfo(
            host=",".join("127.0.0.1" for _ in ports),
            port=",".join(ports),
            user=role,
            password=password,
            dbname=database,
            target_session_attrs="read-write",
        )

    def prepare(self) -> None:
        """Make the first one's data, and an empty directory for the second's. Idempotent."""
        first, second = self.servers
        postgres.prepare(first.data, password=self.password)
        second.data.mkdir(mode=0o700, exist_ok=True)
        if user := postgres.system_user():
            shutil.chown(second.data, user)
        if not self.named.exists():
            self._name(first)

    def argv(self, server: Server) -> list[str]:
        """Return what runs a server, in whichever role it is to have."""
        other = next(one for one in self.servers if one is not server)
        source = postgres.Address("127.0.0.1", other.port).dsn(
            role=postgres.SUPERUSER, password=self.password
        )
        script = START.format(
            named=shlex.quote(str(self.named)),
            me=shlex.quote(server.name),
            data=shlex.quote(str(server.data)),
            copied=COPIED,
            basebackup=shlex.quote(str(postgres.program("pg_basebackup"))),
            primary=shlex.quote(f"{source} application_name={server.application_name}"),
            server=shlex.join(postgres.argv(server.data, server.port)),
        )
        return ["/bin/sh", "-c", script]

    def is_synchronous(self) -> bool:
        """Let no commit be acknowledged without the standby from now on; tell if it is there for that.

        To be asked until it is true; a primary that cannot be reached is a "no".
        """
        primary, standby = self.primary, self.standby
        try:
            with self._connect(primary) as connection:
                name = Literal(standby.application_name)
                connection.execute(SQL("ALTER SYSTEM SET synchronous_standby_names = {}").format(name))
                connection.execute("SELECT pg_reload_conf()")
                row = connection.execute("SELECT sync_state FROM pg_stat_replication").fetchone()
        except psycopg.OperationalError:
            return False
        return row == ("sync",)

    async def is_ready(self) -> bool:
        return await asyncio.to_thread(self.is_synchronous)

    def promote(self) -> None:
        """Make the standby the primary; the other one must be dead, and stays out from now on."""
        standby = self.standby
        self._name(standby)
        with self._connect(standby) as connection:
            row = connection.execute(
                "SELECT pg_promote(wait => true, wait_seconds => %s)", (PROMOTION_SECONDS,)
            ).fetchone()
        if row != (True,):
            raise RuntimeError(f"{standby.name} was not promoted within {PROMOTION_SECONDS} s")

    def _connect(self, server: Server) -> psycopg.Connection[tuple[object, ...]]:
        address = postgres.Address("127.0.0.1", server.port)
        dsn = address.dsn(role=postgres.SUPERUSER, password=self.password)
        return psycopg.connect(dsn, autocommit=True, connect_timeout=postgres.CONNECT_TIMEOUT_SECONDS)

    def _name(self, server: Server) -> None:
        """Replaced in one step, so that a starting server reads the one name or the other."""
        beside = self.named.with_suffix(".new")
        beside.write_text(server.name)
        beside.chmod(0o644)
        beside.replace(self.named)
