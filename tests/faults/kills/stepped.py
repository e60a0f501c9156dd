"""Runs a service's process so that it can be killed at a named step.

    KILL_FILE=<path> KILL_STEPS=signer python -m tests.faults.kills.stepped services.signer.app

Armed by a file: the step's name and at which time it comes (`2 after commit`). The process then
renames the file, so that the one after it lives, and sends itself SIGKILL: no clean-up runs.
"""

import functools
import inspect
import os
import runpy
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.faults.kills.steps import BY_NAME, Step

DONE = ".done"


class Armed:
    """The file that says where to die."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = 0

    def reach(self, step: Step) -> None:
        """Return unless this is the time to die."""
        try:
            times, _, wanted = self._path.read_text().partition(" ")
        except FileNotFoundError:
            self._seen = 0
            return
        if wanted != step.name:
            return
        self._seen += 1
        if self._seen >= int(times):
            self._path.rename(self._path.with_suffix(DONE))
            os.kill(os.getpid(), signal.SIGKILL)


def patch(step: Step, armed: Armed) -> None:
    """Have a function reach the step each time it is called."""
    module_name, _, path = step.target.partition(":")
    *holders, name = path.split(".")
    holder: Any = import_module(module_name)
    for part in holders:
        holder = getattr(holder, part)
    function = getattr(holder, name)
    watched = _watched_async if inspect.iscoroutinefunction(function) else _watched
    setattr(holder, name, watched(function, step, armed))


def _watched(function: Callable[..., Any], step: Step, armed: Armed) -> Callable[..., Any]:
    @functools.wraps(function)
    def reaching(*arguments: Any, **named: Any) -> Any:
        due = step.when(*arguments)
        if due and not step.after:
            armed.reach(step)
        result = function(*arguments, **named)
        if due and step.after and (result or not step.finds):
            armed.reach(step)
        return result

    return reaching


def _watched_async(function: Callable[..., Any], step: Step, armed: Armed) -> Callable[..., Any]:
    @functools.wraps(function)
    async def reaching(*arguments: Any, **named: Any) -> Any:
        due = step.when(*arguments)
        if due and not step.after:
            armed.reach(step)
        result = await function(*arguments, **named)
        if due and step.after and (result or not step.finds):
            armed.reach(step)
        return result

    return reaching


def main() -> None:
    module, armed = sys.argv[1], Armed(Path(os.environ["KILL_FILE"]))
    for step in BY_NAME[os.environ["KILL_STEPS"]]:
        patch(step, armed)
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
