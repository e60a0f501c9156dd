"""The supervisor starts processes in order and brings back what dies."""

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.beside import until
from tests.integration.processes import PARENT, PYTHON, SLEEP, is_alive, pid_of, printed_pid, when
from tilt import child
from tilt.child import NotReadyError, Process, when_done
from tilt.supervisor import Supervisor

pytestmark = pytest.mark.anyio


@pytest.fixture
async def supervisor(tmp_path: Path) -> AsyncIterator[Supervisor]:
    made = Supervisor(tmp_path)
    yield made
    await made.stop()


class TestStart:
    async def test_a_process_starts_only_after_what_it_needs_is_ready(self, supervisor: Supervisor) -> None:
        first_is_ready = asyncio.Event()
        first = Process("first", SLEEP, ready=when(first_is_ready))
        second = Process("second", SLEEP, after=["first"])

        starting = asyncio.create_task(supervisor.start([second, first]))
        await until(lambda: supervisor.log_path("first").exists())

        assert not supervisor.log_path("second").exists()
        first_is_ready.set()
        await starting
        assert is_alive(supervisor.pid("second"))

    async def test_later_processes_may_depend_on_earlier_ones(self, supervisor: Supervisor) -> None:
        await supervisor.start([Process("first", SLEEP)])

        await supervisor.start([Process("second", SLEEP, after=["first"])])

        assert is_alive(supervisor.pid("second"))

    async def test_one_that_never_gets_ready_is_named_with_the_end_of_its_log(
        self, supervisor: Supervisor
    ) -> None:
        noisy = (*PYTHON, "import time; print('no disk', flush=True); time.sleep(600)")
        fine = Process("fine", SLEEP)
        never = Process("nats", noisy, ready=when(asyncio.Event()), ready_within_seconds=0.5)
        starting = asyncio.create_task(supervisor.start([fine, never]))
        await until(lambda: supervisor.log_path("fine").exists())

        with pytest.raises(NotReadyError, match=r"nats was not ready after 0\.5 s(.|\n)*no disk"):
            await starting

    async def test_a_failed_start_leaves_nothing(self, supervisor: Supervisor) -> None:
        pids: list[int | None] = []

        async def never() -> bool:
            pids.append(supervisor.pid("fine"))
            return False

        fine = Process("fine", SLEEP)
        bad = Process("bad", SLEEP, ready=never, ready_within_seconds=0.3, after=["fine"])
        with pytest.raises(NotReadyError):
            await supervisor.start([fine, bad])

        assert pids
        assert not is_alive(pids[0])

    async def test_one_that_ends_before_it_is_ready_and_may_not_restart_is_named_at_once(
        self, supervisor: Supervisor
    ) -> None:
        argv = (*PYTHON, "import sys; sys.exit('wrong version')")
        process = Process("migration", argv, ready=when(asyncio.Event()), restart=False)

        with pytest.raises(NotReadyError, match=r"migration ended with status 1 before(.|\n)*wrong version"):
            await supervisor.start([process])

    async def test_one_that_dies_before_it_is_ready_is_tried_again(
        self, supervisor: Supervisor, tmp_path: Path
    ) -> None:
        mark = tmp_path / "second"
        code = (
            "import pathlib, sys, time; mark = pathlib.Path(sys.argv[1]); "
            "second = mark.exists(); mark.touch(); second or sys.exit(1); "
            "mark.write_text('up'); time.sleep(600)"
        )

        async def is_up() -> bool:
            return mark.read_text() == "up"  # an OSError until the file is there

        await supervisor.start([Process("late", (*PYTHON, code, str(mark)), ready=is_up)])

        assert supervisor.restarts("late") == 1

    @pytest.mark.parametrize("after", [["unknown"], ["itself"]])
    async def test_impossible_dependencies_are_refused(
        self, supervisor: Supervisor, after: list[str]
    ) -> None:
        with pytest.raises(ValueError, match=r"unknown|cycle"):
            await supervisor.start([Process("itself", SLEEP, after=after)])

    async def test_environment_and_directory_are_its_own(
        self, supervisor: Supervisor, tmp_path: Path
    ) -> None:
        code = (
            "import os, time; os.environ.pop('LC_CTYPE', 0); "
            "print(dict(os.environ), os.getcwd(), flush=True); time.sleep(600)"
        )
        process = Process("own", (*PYTHON, code), {"ONLY": "this"}, directory=tmp_path)

        await supervisor.start([process])
        await until(lambda: b"\n" in supervisor.log_path("own").read_bytes())

        assert supervisor.log_path("own").read_text() == f"{{'ONLY': 'this'}} {tmp_path}\n"

    async def test_what_comes_after_a_job_waits_until_it_is_done(self, supervisor: Supervisor) -> None:
        code = "import time; time.sleep(0.2); print('migrated')"
        job = Process("job", (*PYTHON, code), ready=when_done, restart=False)
        service = Process("service", SLEEP, after=["job"])

        starting = asyncio.create_task(supervisor.start([job, service]))
        await until(lambda: supervisor.log_path("service").exists())

        assert supervisor.log_path("job").read_text() == "migrated\n"
        await starting


class TestRestart:
    async def test_a_killed_process_comes_back(self, supervisor: Supervisor) -> None:
        await supervisor.start([Process("signer", SLEEP)])
        pid = pid_of(supervisor, "signer")

        os.kill(pid, signal.SIGKILL)
        await until(lambda: supervisor.pid("signer") not in (None, pid))

        assert supervisor.restarts("signer") == 1
        assert is_alive(supervisor.pid("signer"))

    async def test_what_a_killed_process_had_started_is_gone_before_it_comes_back(
        self, supervisor: Supervisor
    ) -> None:
        await supervisor.start([Process("npm", PARENT)])
        grandchild = await printed_pid(supervisor.log_path("npm"))
        pid = pid_of(supervisor, "npm")

        os.kill(pid, signal.SIGKILL)
        await until(lambda: supervisor.pid("npm") not in (None, pid))

        assert not is_alive(grandchild)

    async def test_the_pause_grows(self, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(child, "FIRST_PAUSE_SECONDS", 0.01)
        monkeypatch.setattr(child, "LONGEST_PAUSE_SECONDS", 0.16)
        code = "import time; print(time.monotonic(), flush=True)"
        await supervisor.start([Process("broken", (*PYTHON, code))])

        await until(lambda: supervisor.restarts("broken") == 6)

        starts = [float(line) for line in supervisor.log_path("broken").read_text().split()]
        pauses = [late - early for early, late in itertools.pairwise(starts)]
        for pause, least in zip(pauses, (0.01, 0.02, 0.04, 0.08, 0.16), strict=False):
            assert pause >= least

    async def test_one_that_shall_not_restart_does_not(self, supervisor: Supervisor) -> None:
        await supervisor.start([Process("once", (*PYTHON, "print('done')"), restart=False)])

        await until(lambda: supervisor.pid("once") is None)
        await asyncio.sleep(0.3)

        assert supervisor.restarts("once") == 0
        assert supervisor.log_path("once").read_text() == "done\n"

    async def test_a_large_log_starts_anew_and_keeps_the_old_one(self, tmp_path: Path) -> None:
        path = tmp_path / "log" / "large.log"
        path.parent.mkdir()
        path.touch()
        os.truncate(path, child.LOG_BYTES_MAX + 1)

        child.open_log(path).close()

        assert path.stat().st_size == 0
        assert path.with_name("large.log.1").stat().st_size == child.LOG_BYTES_MAX + 1
