"""What each part of `make faults` tells: how much it tried, what it saw, what it found wrong."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Findings:
    """Of one chunk of a run; chunks add up.

    `tried` counts the part's own unit (kills, crash points, rounds, halts …), `counted` what shows
    that the trying meant something (payments, tickets, restarts …), by name.
    """

    tried: int
    counted: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)


class Part(Protocol):
    """A module of `tests.faults` that can be run long."""

    UNIT: str  # what `tried` counts, in the plural
    AMOUNT: int  # what the recorded run tries

    def run(self, seed: int, amount: int) -> Iterator[Findings]:
        """Try `amount` units; the same seed tries the same things. Yields after each chunk."""
        ...
