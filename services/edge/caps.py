"""Caps on how often: so many a second of each, with a burst, in bounded memory and for this process."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """`burst` at once, then `per_second`."""

    per_second: float
    burst: float


class Cap:
    """Counts each by its name (GCRA: one number for each, the time at which all it took is due).

    Whoever was not seen for the longest time is forgotten first, and begins anew.
    """

    def __init__(self, many_max: int, now: Callable[[], float] = time.monotonic) -> None:
        self._many_max = many_max
        self._now = now
        self._due: OrderedDict[str, float] = OrderedDict()

    def take(self, name: str, pace: Pace) -> float:
        """Take one, answering 0; or take none, answering the seconds until there is one."""
        now = self._now()
        ahead = self._ahead(name, now)
        interval = 1 / pace.per_second
        wait = ahead - (pace.burst - 1) * interval
        if wait > 0:
            return wait
        self._due[name] = now + ahead + interval
        self._due.move_to_end(name)
        if len(self._due) > self._many_max:
            self._due.popitem(last=False)
        return 0.0

    def wait(self, name: str, pace: Pace) -> float:
        """Return the seconds until one may be taken."""
        return max(0.0, self._ahead(name, self._now()) - (pace.burst - 1) / pace.per_second)

    def __len__(self) -> int:
        return len(self._due)

    def _ahead(self, name: str, now: float) -> float:
        due = self._due.get(name, now)
        return due - now if due > now else 0.0
