"""A fail-over to the standby loses nothing that was acknowledged, and leaves a pair behind."""

import os
import signal
import time
from collections.abc import Iterator

import psycopg
import pytest
from anyio.from_thread import start_blocking_portal

from tests import infra
from tilt.servers.standby import Pair
from tilt.supervisor import Supervisor
from tilt.world import Options, World

COMMITS = 200
STANDBY_SECONDS = 60.0


@pytest.fixture
def databases() -> Iterator[tuple[World, Supervisor]]:
    """The two servers of a world, and nothing else of it."""
    with infra.own_slot() as slot, start_blocking_portal() as portal:
        world = World(slot, Options(standby=True))
        world.postgres_pair.prepare()
        servers = {server.name for server in world.postgres_pair.servers}
        processes = [process for process in world.servers() if process.name in servers]
        with portal.wrap_async_context_manager(Supervisor(slot.directory)) as supervisor:
            portal.call(supervisor.start, processes)
            yield world, supervisor


def test_a_fail_over_keeps_all_that_was_acknowledged_and_the_old_primary_comes_back_as_standby(
    databases: tuple[World, Supervisor],
) -> None:
    world, supervisor = databases
    pair, dsn = world.postgres_pair, world.dsn(database="postgres")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (number integer)")

        for number in range(COMMITS):
            connection.execute("INSERT INTO kept VALUES (%s)", (number,))

    _fail_over(pair, supervisor)

    with psycopg.connect(dsn) as connection:
        kept = connection.execute("SELECT number FROM kept ORDER BY number").fetchall()
    assert [number for (number,) in kept] == list(range(COMMITS))
    assert (pair.primary.name, pair.standby.name) == ("postgres-2", "postgres")


def _fail_over(pair: Pair, supervisor: Supervisor) -> None:
    pid = supervisor.pid(pair.primary.name)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    pair.promote()
    deadline = time.monotonic() + STANDBY_SECONDS
    while not pair.is_synchronous():
        assert time.monotonic() < deadline, "the old primary did not come back as a standby"
        time.sleep(0.1)
