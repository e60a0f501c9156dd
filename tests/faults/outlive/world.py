"""Two of each of our own processes, a standby of PostgreSQL, and ways that stand before some of them.

`origin` is where clients reach both edges, as behind a load balancer; `rpc` is how the deposit
watchers reach the chain, so that they can lose it while the orchestrator does not.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from anyio.from_thread import start_blocking_portal

from tests import infra
from tilt.child import Process
from tilt.run import start
from tilt.slot import Slot
from tilt.supervisor import Supervisor
from tilt.world import Options, World

RPC = "rpc"
ORIGIN = "origin"
START_SECONDS = 180.0  # on a busy machine


class OutliveWorld(World):
    """The orchestrator's terms are those of `make run`: a ticket covers two seconds of a runner."""

    def __init__(self, slot: Slot, credit_ahead_seconds: int) -> None:
        super().__init__(slot, Options(replicas=2, standby=True))
        self.credit_ahead_seconds = credit_ahead_seconds

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.slot.port(ORIGIN)}"

    def servers(self) -> list[Process]:
        return [_patient(process) for process in super().servers()]

    def services(self) -> list[Process]:
        edges = [
            f"{self.slot.port(edge)}={self.slot.port(f'{edge}-health')}" for edge in self.replicas_of("edge")
        ]
        return [
            self._way(RPC, str(self.slot.port("anvil"))),
            self._way(ORIGIN, *edges),
            *(_patient(self._told(process)) for process in super().services()),
        ]

    def _way(self, name: str, *servers: str) -> Process:
        argv = [sys.executable, "-m", "tests.faults.outlive.way", str(self.slot.port(name)), *servers]
        return Process(name, argv)

    def _told(self, process: Process) -> Process:
        told = {}
        if process.name in self.replicas_of("signer"):
            told["SIGNER_CREDIT_AHEAD_SECONDS"] = str(self.credit_ahead_seconds)
        if process.name in self.replicas_of("deposit_watcher"):
            told["DEPOSIT_WATCHER_RPC_URL"] = f"http://127.0.0.1:{self.slot.port(RPC)}"
        if process.name in self.replicas_of("edge"):
            told["EDGE_PUBLIC_URL"] = self.origin
        return replace(process, env={**(process.env or {}), **told}) if told else process


def _patient(process: Process) -> Process:
    return replace(process, ready_within_seconds=START_SECONDS)


@contextmanager
def running(credit_ahead_seconds: int) -> Iterator[tuple[OutliveWorld, Supervisor]]:
    """Start all; what dies is started again by a thread of its own, whatever we are doing."""
    with infra.own_slot() as slot, start_blocking_portal() as portal:
        world = OutliveWorld(slot, credit_ahead_seconds)
        world.prepare()
        with portal.wrap_async_context_manager(Supervisor(slot.directory)) as supervisor:
            portal.call(start, world, supervisor)
            yield world, supervisor
