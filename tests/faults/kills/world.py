"""A world whose processes can be killed at named steps, two of each."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tests.faults.kills.stepped import DONE
from tests.faults.kills.steps import STEPS
from tilt.child import Process
from tilt.world import Options, World

# A second costs a ticket, so that each payment has one; idle sessions give back soon.
OPTIONS = Options(
    ticket_ev_wei=10**11,
    face_value_wei=10**14,
    price_per_unit=10**11,
    idle_seconds=5,
    unknown_per_second=0,  # all clients come from one address, and some show keys that were revoked
    replicas=2,
)


class SteppedWorld(World):
    """Production's processes, each started by way of `stepped`."""

    def services(self) -> list[Process]:
        self._directory.mkdir(exist_ok=True)
        return [self._stepped(process) for process in super().services()]

    def stepped(self) -> dict[str, list[str]]:
        """The processes that have steps, with their replicas."""
        return {name: self.replicas_of(name) for name in STEPS}

    def arm(self, processes: Sequence[str], step: str, times: int) -> None:
        """Have each of them die at the step, when it comes there so often."""
        for process in processes:
            self._file(process).with_suffix(DONE).unlink(missing_ok=True)
            beside = self._file(process).with_suffix(".new")
            beside.write_text(f"{times} {step}")
            beside.replace(self._file(process))

    def disarm(self, processes: Sequence[str]) -> list[str]:
        """Let those live that do yet; return who died at the step."""
        for process in processes:
            self._file(process).unlink(missing_ok=True)
        return self.died(processes)

    def died(self, processes: Sequence[str]) -> list[str]:
        return [process for process in processes if self._file(process).with_suffix(DONE).exists()]

    @property
    def _directory(self) -> Path:
        return self.directory / "kills"

    def _file(self, process: str) -> Path:
        return self._directory / f"{process}.step"

    def _stepped(self, process: Process) -> Process:
        for name, replicas in self.stepped().items():
            if process.name in replicas:
                *python, module = process.argv
                assert python == [sys.executable, "-m"]
                argv = [*python, "tests.faults.kills.stepped", module]
                env = {**(process.env or {}), "KILL_FILE": str(self._file(process.name)), "KILL_STEPS": name}
                return replace(process, argv=argv, env=env)
        return process
