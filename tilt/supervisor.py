"""Starts processes in the order of their dependencies, keeps them alive, stops them in reverse.

    async with Supervisor(slot.directory) as supervisor:
        await supervisor.start([Process("nats", ...), Process("signer", ..., after=["nats"])])
        await supervisor.wait()  # until SIGINT or SIGTERM

Nothing outlives the supervisor, not even when it is killed (see `leash`).
"""

import asyncio
import contextlib
import signal
import threading
from collections.abc import Sequence
from graphlib import TopologicalSorter
from pathlib import Path
from types import TracebackType
from typing import Self

from tilt.child import Child, Process


class Supervisor:
    """Processes of one directory; their output is in `<directory>/log/<name>.log`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._children: dict[str, Child] = {}
        self._signalled = False
        self._entered_by: asyncio.Task[None] | None = None

    async def start(self, processes: Sequence[Process]) -> None:
        """Start all and return once all are ready; if one never is, stop all and raise.

        May be called again with more processes, that may come `after` the earlier ones.
        """
        self._check_names(processes)
        ready = {name: asyncio.Event() for name in self._children}
        for event in ready.values():
            event.set()
        for process in processes:
            self._children[process.name] = Child(process, self.log_path(process.name))
            ready[process.name] = asyncio.Event()
        starts = [asyncio.create_task(self._start_one(p, ready)) for p in processes]
        try:
            await asyncio.gather(*starts)
        except BaseException:
            for task in starts:
                task.cancel()
            await asyncio.gather(*starts, return_exceptions=True)
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop all, each after those that depend on it; nothing is left when this returns."""
        gone = {name: asyncio.Event() for name in self._children}
        try:
            await asyncio.gather(*(self._stop_one(c, gone) for c in self._children.values()))
        finally:
            self._children.clear()

    def pid(self, name: str) -> int | None:
        """Return the process id; None between its death and its restart."""
        return self._children[name].pid

    def restarts(self, name: str) -> int:
        return self._children[name].restarts

    def log_path(self, name: str) -> Path:
        return self._directory / "log" / f"{name}.log"

    async def wait(self) -> None:
        """Sleep until a signal ends the `async with` block."""
        await asyncio.Event().wait()

    async def __aenter__(self) -> Self:
        """From here SIGINT and SIGTERM end the block: all is stopped, the program goes on after."""
        self._entered_by = asyncio.current_task()
        self._handle_signals(install=True)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        signalled = self._signalled
        self._signalled = True  # while stopping, further signals change nothing
        try:
            await self.stop()
        finally:
            self._handle_signals(install=False)
        if signalled and kind is asyncio.CancelledError and self._entered_by is not None:
            self._entered_by.uncancel()
            return True
        return False

    def _check_names(self, processes: Sequence[Process]) -> None:
        names = [*self._children, *(process.name for process in processes)]
        if len(set(names)) < len(names):
            raise ValueError(f"two processes of one name among {names}")
        graph = {process.name: process.after for process in processes}
        if unknown := {name for after in graph.values() for name in after} - set(names):
            raise ValueError(f"processes to come after are unknown: {sorted(unknown)}")
        TopologicalSorter(graph).prepare()  # raises CycleError

    async def _start_one(self, process: Process, ready: dict[str, asyncio.Event]) -> None:
        for name in process.after:
            await ready[name].wait()
        await self._children[process.name].start()
        ready[process.name].set()

    async def _stop_one(self, child: Child, gone: dict[str, asyncio.Event]) -> None:
        for other in self._children.values():
            if child.process.name in other.process.after:
                await gone[other.process.name].wait()
        try:
            await child.stop()
        finally:
            gone[child.process.name].set()

    def _handle_signals(self, *, install: bool) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # only the main thread may handle signals
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError):
                if install:
                    loop.add_signal_handler(signum, self._on_signal)
                else:
                    loop.remove_signal_handler(signum)

    def _on_signal(self) -> None:
        if self._signalled or self._entered_by is None:
            return
        self._signalled = True
        self._entered_by.cancel()
