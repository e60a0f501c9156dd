"""How a long task tells how far it is: JSON lines, a few a second."""

import sys
import time
from collections.abc import Callable
from typing import Literal

from pydantic import BaseModel

INTERVAL_SECONDS = 0.2
LOOK_EVERY = 64  # events between two looks at the clock


class Progress(BaseModel):
    """`of` is what there was at the start; a log may grow meanwhile."""

    kind: Literal["progress"] = "progress"
    service: str
    part: str
    events: int
    of: int


class Replayed(BaseModel):
    """What a replay came to. `differing`: rows (by their keys) of tables that were not as told."""

    kind: Literal["replayed"] = "replayed"
    service: str
    action: Literal["verify", "rebuild"]
    events: int
    seconds: float
    events_per_second: int
    differing: dict[str, list[str]]
    state: str  # SHA-256 over the state of all aggregates, where they are all folded


class Failed(BaseModel):
    kind: Literal["failed"] = "failed"
    service: str
    problem: str


type Line = Progress | Replayed | Failed


def print_line(line: Line) -> None:
    sys.stdout.write(line.model_dump_json() + "\n")
    sys.stdout.flush()


class Meter:
    """Counts events, and tells about them from time to time."""

    def __init__(self, service: str, tell: Callable[[Progress], None] = print_line) -> None:
        self.total = 0
        self._service = service
        self._tell = tell
        self._part, self._of, self._events = "", 0, 0
        self._started_at = self._told_at = time.monotonic()

    def begin(self, part: str, of: int) -> None:
        self._part, self._of, self._events = part, of, 0
        self._say()

    def count(self) -> None:
        self.total += 1
        self._events += 1
        if self._events % LOOK_EVERY == 0 and time.monotonic() - self._told_at >= INTERVAL_SECONDS:
            self._say()

    def end(self) -> None:
        self._say()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started_at

    def _say(self) -> None:
        self._told_at = time.monotonic()
        self._tell(
            Progress(
                service=self._service, part=self._part, events=self._events, of=max(self._of, self._events)
            )
        )
