"""Fixtures for all tests; `tests.infra` says what the servers offer.

`postgres`   the session's server: `with postgres.database("signer") as database: …`
`database`   a function; `database("signer", "quota")` is a fresh database, dropped after the test
`nats`       a server per test module, with the users in the module's NATS_USERS (default none)
`directory`  an empty directory per test that servers of other system users may enter
"""

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from tests import infra
from tilt.slot import Slot

# Machines are shared: no deadline an example; and in CI the same examples each time.
settings.register_profile("house", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("house")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def slot() -> Iterator[Slot]:
    with infra.own_slot() as taken:
        yield taken


@pytest.fixture
def directory(slot: Slot) -> Iterator[Path]:
    made = slot.directory / f"test-{secrets.token_hex(4)}"
    made.mkdir()
    yield made
    infra.keep_outputs(made)
    shutil.rmtree(made)


@pytest.fixture(scope="session")
def postgres(slot: Slot) -> Iterator[infra.Postgres]:
    with infra.run_postgres(slot) as server:
        yield server


@pytest.fixture
def database(postgres: infra.Postgres) -> Iterator[Callable[..., infra.Database]]:
    with ExitStack() as made:
        yield lambda *roles: made.enter_context(postgres.database(*roles))


@pytest.fixture(scope="module")
def nats(request: pytest.FixtureRequest, slot: Slot) -> Iterator[infra.Nats]:
    with infra.run_nats(slot, getattr(request.module, "NATS_USERS", ())) as server:
        yield server


# Each is started once for all tests below.
WORLDS = ("tests/acceptance/", "tests/faults/", "tests/integration/cli/")


class BySharedServers(LoadScopeScheduling):  # type: ignore[misc] # it has no types
    """Several run at once: what shares servers stays together, a file at least.

    Marks of xdist's groups say nothing: pytest 9.2 has its ids elsewhere than xdist 3.8 writes them.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return next((world for world in WORLDS if path.startswith(world)), path)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return BySharedServers(config, log)


def pytest_configure(config: pytest.Config) -> None:
    if infra.uses_containers():  # Docker's client leaves its sockets open
        config.addinivalue_line("filterwarnings", "ignore::ResourceWarning")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was tested against, as a wish for containers may not have come true."""
    kind = "containers" if infra.uses_containers() else "embedded"
    terminalreporter.write_line(f"servers: {kind}")
