"""How a running task is shown: a bar on a terminal, else plain lines, or JSON for machines."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from services.cli.replaying import Show
from shared.meter import Failed, Line, Replayed, print_line
from shared.meter import Progress as Told

PLAIN_SECONDS = 5.0  # between two plain lines


@contextmanager
def showing(*, json: bool) -> Iterator[Show]:
    if json:
        yield print_line
    elif sys.stdout.isatty():
        with _bars() as bars:
            yield Bars(bars)
    else:
        yield Plain()


def _bars() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console())


class Bars:
    """One bar for each part of a task."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._began_at: dict[str, float] = {}

    def __call__(self, line: Line) -> None:
        if not isinstance(line, Told):
            self._progress.console.print(summary(line), highlight=False, markup=False)
            return
        if line.part not in self._tasks:
            self._tasks[line.part] = self._progress.add_task(f"{line.service} {line.part}", rate="")
            self._began_at[line.part] = time.monotonic()
        seconds = time.monotonic() - self._began_at[line.part]
        rate = f"{int(line.events / seconds):,}/s" if seconds else ""
        self._progress.update(self._tasks[line.part], completed=line.events, total=max(1, line.of), rate=rate)


class Plain:
    """A line now and then, and the summary."""

    def __init__(self) -> None:
        self._told_at = float("-inf")

    def __call__(self, line: Line) -> None:
        if isinstance(line, Told):
            if time.monotonic() - self._told_at < PLAIN_SECONDS:
                return
            self._told_at = time.monotonic()
        sys.stdout.write(summary(line) + "\n")
        sys.stdout.flush()


def summary(line: Line) -> str:
    """One line says it, but for what differs."""
    match line:
        case Told():
            return f"{line.service}: {line.part}, {line.events:,} of {line.of:,} events"
        case Failed():
            return f"{line.service}: {line.problem}"
    figures = f"{line.events:,} events in {line.seconds:.1f} s, {line.events_per_second:,}/s"
    return "\n".join([f"{line.service}: {_verdict(line)} ({figures})", *_differing(line)])


def _verdict(line: Replayed) -> str:
    if line.action == "rebuild":
        return "made anew from its log"
    return "not as its log says" if line.differing else "as its log says"


def _differing(line: Replayed) -> list[str]:
    dropped = " dropped" if line.action == "rebuild" else ""
    return [f"  {name}{dropped}: {', '.join(keys)}" for name, keys in line.differing.items()]
