"""Runs a service's replay as a process of that service, and follows what it tells."""

import subprocess
import sys
from collections.abc import Callable

from pydantic import TypeAdapter, ValidationError

from shared.meter import Line, Replayed

LINE: TypeAdapter[Line] = TypeAdapter(Line)
FAILED = 2

type Show = Callable[[Line], None]


def run_replay(service: str, show: Show, *, verify: bool) -> int:
    """Return its status, or FAILED without a report. Lines that are not ours are passed on as they are."""
    command = [sys.executable, "-m", f"services.{service}.replay", *(["--verify"] if verify else [])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 (our own)
        assert process.stdout is not None
        reported = False
        for text in process.stdout:
            try:
                line = LINE.validate_json(text)
            except ValidationError:
                sys.stdout.write(text)
                continue
            reported = reported or isinstance(line, Replayed)
            show(line)
    return process.returncode if reported else FAILED  # a crash ends with 1, too
