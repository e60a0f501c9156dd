"""Totals of `make faults`: what each part has tried in all its runs, in one file that adds up.

A run writes after each chunk, so one that was stopped goes on where it was. Several parts may run
at the same time: each change reads, adds and writes under a lock.
"""

import fcntl
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.faults.part import Findings

VIOLATIONS_KEPT = 50


@dataclass
class Total:
    """One part's: `seeds` says how many units were tried with each, `on` when the last were."""

    unit: str
    tried: int = 0
    counted: Counter[str] = field(default_factory=Counter)
    violated: int = 0
    violations: list[str] = field(default_factory=list)  # the first of them
    seeds: dict[str, int] = field(default_factory=dict)
    on: str = ""

    @classmethod
    def read(cls, stored: dict[str, Any]) -> "Total":
        return cls(**{**stored, "counted": Counter(stored["counted"])})

    def add(self, seed: int, findings: Findings) -> None:
        self.tried += findings.tried
        self.counted.update(findings.counted)
        self.violated += len(findings.violations)
        self.violations = [*self.violations, *findings.violations][:VIOLATIONS_KEPT]
        self.seeds[str(seed)] = self.seeds.get(str(seed), 0) + findings.tried
        self.on = datetime.now(UTC).date().isoformat()

    def to_json(self) -> dict[str, Any]:
        return {
            "unit": self.unit,
            "tried": self.tried,
            "counted": dict(sorted(self.counted.items())),
            "violated": self.violated,
            "violations": self.violations,
            "seeds": dict(sorted(self.seeds.items())),
            "on": self.on,
        }


class Totals:
    """A file of them, by part."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[str, Total]:
        if not self._path.exists():
            return {}
        stored = json.loads(self._path.read_text())
        return {name: Total.read(total) for name, total in stored.items()}

    def of(self, part: str, unit: str) -> Total:
        return self.read().get(part) or Total(unit)

    def add(self, part: str, unit: str, seed: int, findings: Findings) -> Total:
        """Add a chunk and return what there is now."""

        def change(totals: dict[str, Total]) -> Total:
            total = totals.setdefault(part, Total(unit))
            total.add(seed, findings)
            return total

        return self._change(change)

    def forget(self, part: str) -> None:
        """Begin a part anew, when what it found was mended."""
        self._change(lambda totals: totals.pop(part, None))

    def _change[R](self, change: Callable[[dict[str, Total]], R]) -> R:
        with self._locked():
            totals = self.read()
            result = change(totals)
            text = json.dumps({name: totals[name].to_json() for name in sorted(totals)}, indent=2)
            beside = self._path.with_suffix(".new")
            beside.write_text(text + "\n")
            beside.replace(self._path)
        return result

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """The directory is locked, not the file: that one is replaced."""
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            yield
        finally:
            os.close(directory)


def table(totals: dict[str, Total]) -> str:
    """One line a part, below it what was counted, and at last how many violations there were."""
    lines = []
    for name, total in totals.items():
        seeds = ", ".join(f"{seed} ({tried})" for seed, tried in total.seeds.items())
        lines.append(f"{name}: {total.tried} {total.unit}; seeds {seeds}; {total.on}")
        width = max(map(len, total.counted), default=0)
        lines += [f"  {what:<{width}}  {count:>9}" for what, count in sorted(total.counted.items())]
        lines += [f"  VIOLATED: {violation}" for violation in total.violations]
        if (hidden := total.violated - len(total.violations)) > 0:
            lines.append(f"  VIOLATED: {hidden} times more")
    lines.append(f"violations: {sum(total.violated for total in totals.values())}")
    return "\n".join(lines)
