"""The supervisor leaves nothing behind, however it ends."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.beside import until
from tests.integration.processes import (
    PARENT,
    PYTHON,
    SLEEP,
    STUBBORN,
    is_alive,
    pid_of,
    printed_pid,
    says_ready,
)
from tilt.child import Process
from tilt.supervisor import Supervisor

pytestmark = pytest.mark.anyio

# A supervisor with one child and one grandchild, in a process of its own.
PROGRAM = f"""
import asyncio, json, pathlib, sys
from tilt.child import Process
from tilt.supervisor import Supervisor

async def main():
    async with Supervisor(pathlib.Path(sys.argv[1])) as supervisor:
        await supervisor.start([
            Process("stubborn", {STUBBORN!r}, stop_within_seconds=0.5),
            Process("parent", {PARENT!r}, after=["stubborn"]),
        ])
        print(json.dumps([supervisor.pid("stubborn"), supervisor.pid("parent")]), flush=True)
        await supervisor.wait()
    print("stopped", flush=True)

asyncio.run(main())
"""


@pytest.fixture
async def supervisor(tmp_path: Path) -> AsyncIterator[Supervisor]:
    made = Supervisor(tmp_path)
    yield made
    await made.stop()


@pytest.fixture
def program(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    with _run(PROGRAM, tmp_path) as process:
        yield process


class TestStop:
    async def test_dependents_stop_first(self, supervisor: Supervisor, tmp_path: Path) -> None:
        order = tmp_path / "order"
        code = (
            "import signal, sys, time\n"
            "def stop(*_):\n"
            "    time.sleep(0.1)\n"
            "    open(sys.argv[1], 'a').write(sys.argv[2])\n"
            "    sys.exit()\n"
            "signal.signal(signal.SIGTERM, stop)\n"
            "print('ready', flush=True)\n"
            "time.sleep(600)"
        )
        processes = []
        for name, after in (("c", ["b"]), ("a", []), ("b", ["a"])):
            argv = (*PYTHON, code, str(order), name)
            ready = says_ready(supervisor.log_path(name))
            processes.append(Process(name, argv, after=after, ready=ready))
        await supervisor.start(processes)

        await supervisor.stop()

        assert order.read_text() == "cba"

    async def test_the_stubborn_the_halted_and_the_grandchildren_are_gone(
        self, supervisor: Supervisor
    ) -> None:
        processes = [
            Process("stubborn", STUBBORN, stop_within_seconds=0.3),
            Process("halted", SLEEP),
            Process("npm", PARENT),
        ]
        await supervisor.start(processes)
        pids = [pid_of(supervisor, process.name) for process in processes]
        pids.append(await printed_pid(supervisor.log_path("npm")))
        os.kill(pid_of(supervisor, "halted"), signal.SIGSTOP)

        await supervisor.stop()

        assert [pid for pid in pids if is_alive(pid)] == []

    async def test_one_that_waits_for_its_restart_is_stopped(self, supervisor: Supervisor) -> None:
        await supervisor.start([Process("broken", (*PYTHON, "raise SystemExit"))])
        await until(lambda: supervisor.restarts("broken") >= 2)

        async with asyncio.timeout(30):
            await supervisor.stop()

        with pytest.raises(KeyError):
            supervisor.pid("broken")

    @pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
    async def test_a_signal_stops_everything_and_the_program_goes_on(
        self, program: subprocess.Popen[str], tmp_path: Path, signum: signal.Signals
    ) -> None:
        pids = await _pids(program, tmp_path)

        program.send_signal(signum)
        said, _ = await asyncio.to_thread(program.communicate, timeout=5)

        assert said.endswith("stopped\n")
        assert program.returncode == 0
        assert [pid for pid in pids if is_alive(pid)] == []

    async def test_a_signal_during_the_start_stops_everything(self, tmp_path: Path) -> None:
        code = PROGRAM.replace(
            'Process("stubborn", ', 'Process("stubborn", ready=asyncio.Event().wait, argv='
        )
        with _run(code, tmp_path) as program:
            await until((tmp_path / "log" / "stubborn.log").exists)

            program.send_signal(signal.SIGTERM)
            said, _ = await asyncio.to_thread(program.communicate, timeout=5)

        assert said.endswith("stopped\n")
        assert program.returncode == 0

    async def test_nothing_survives_a_killed_supervisor(
        self, program: subprocess.Popen[str], tmp_path: Path
    ) -> None:
        pids = await _pids(program, tmp_path)

        program.kill()

        await until(lambda: not any(is_alive(pid) for pid in pids))


@contextmanager
def _run(code: str, directory: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", code, str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


async def _pids(program: subprocess.Popen[str], directory: Path) -> list[int]:
    """Return the processes under the program's supervisor, all of them seen alive."""
    assert program.stdout
    pids: list[int] = json.loads(await asyncio.to_thread(program.stdout.readline))
    pids.append(await printed_pid(directory / "log" / "parent.log"))
    assert all(is_alive(pid) for pid in pids)
    return pids
