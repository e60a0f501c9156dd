"""The world that faults and attacks are tried in: production's limits, a deposit that can be used up."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from anyio.from_thread import start_blocking_portal

from tests import infra
from tilt.chain import world as chain_world
from tilt.child import Process
from tilt.run import start
from tilt.slot import Slot
from tilt.supervisor import Supervisor
from tilt.world import Options, World

SCALE = int(os.environ.get("DRAINS_SCALE", "1"))  # of what is tried; 1 is for `make test`
DEPOSIT_WEI = 6 * 10**15 * SCALE
IDLE_SECONDS = 5  # after which an allowance comes back
OPTIONS = Options(
    idle_seconds=IDLE_SECONDS,
    unknown_per_second=0,  # whoever attacks shows hundreds of bad keys from one address
    log_level="debug",
)


class GuardedWorld(World):
    """A world as an operator is told to set it up: the signer pays the recipients it knows.

    The one it knows is the registered orchestrator, whom the attacker has on his side.
    """

    def servers(self) -> list[Process]:
        return [_funded(process) if process.name == "deploy" else process for process in super().servers()]

    def services(self) -> list[Process]:
        made = chain_world.load(self.chain_directory)
        assert made is not None
        listed = {"SIGNER_RECIPIENTS": made.orchestrator}
        return [
            replace(process, env={**(process.env or {}), **listed}) if process.name == "signer" else process
            for process in super().services()
        ]


def _funded(deployment: Process) -> Process:
    argv = list(deployment.argv)
    argv[argv.index("--deposit-wei") + 1] = str(DEPOSIT_WEI)
    return replace(deployment, argv=argv)


@contextmanager
def running_world(
    kind: Callable[[Slot, Options], World] = GuardedWorld, options: Options | None = None
) -> Iterator[tuple[World, Supervisor]]:
    """Start all processes; they are supervised in a thread of their own, whatever a test is doing."""
    with infra.own_slot() as slot, start_blocking_portal() as portal:
        world = kind(slot, options or OPTIONS)
        world.prepare()
        with portal.wrap_async_context_manager(Supervisor(slot.directory)) as supervisor:
            portal.call(start, world, supervisor)
            yield world, supervisor
