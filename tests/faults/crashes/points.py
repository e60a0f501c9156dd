"""The points at which a process may die, and what dies with it."""

from collections import Counter
from random import Random
from typing import Any

from psycopg import Cursor
from psycopg.rows import DictRow

from shared.store import Effect


class Crash(BaseException):
    """The process is gone: what its code would do now, and what it would tidy up, it does not."""


class Points:
    """One process of a service: it dies when it has passed so many points.

    Once dead it stays so: whatever of it still runs dies at the next point, before any effect.
    """

    def __init__(self, service: str, random: Random, *, passed_mean: float, fault_rate: float) -> None:
        self._service = service
        self._random = random
        self._passed_mean = passed_mean
        self._fault_rate = fault_rate
        self.crashed: Counter[str] = Counter()  # how often it died, by point
        self.faults: Counter[str] = Counter()  # what the database did to it
        self.dead = False
        self.armed = True
        self._connections: Any = None
        self.begin()

    def begin(self) -> None:
        """A new process: nothing of the one before is left."""
        self.dead = False
        self._left = self._random.randint(1, max(1, round(2 * self._passed_mean)))

    def reach(self, name: str) -> None:
        if self.dead:
            raise Crash(self._service, name)
        if not self.armed:
            return
        self._left -= 1
        if self._left <= 0:
            self.dead = True
            self.crashed[f"{self._service}: {name}"] += 1
            raise Crash(self._service, name)

    def effect(self, name: str) -> Effect:
        """A point inside a transaction."""

        def reached(_: Cursor[DictRow]) -> None:
            self.reach(name)

        return reached

    def fails(self, moment: str) -> bool:
        """Whether the connection to PostgreSQL is cut at this moment."""
        if not self.armed or self._random.random() >= self._fault_rate:
            return False
        self.faults[f"{self._service}: connection cut {moment}"] += 1
        return True

    def connections[Pool](self, new: Pool) -> Pool:
        """The connections of this process's store, kept for those who come after it."""
        self._connections = self._connections or new
        kept: Pool = self._connections
        return kept

    def close(self) -> None:
        if self._connections is not None:
            self._connections.close()
