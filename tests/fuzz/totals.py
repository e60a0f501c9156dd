"""What was tried so far, chunk by chunk, in a file of JSON lines that a later run continues."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Chunk:
    """One part of a run; with the seed and its number it can be run again, and gives the same.

    `violations` are ready to print: rule, detail, setting, body, and the smallest body found.
    """

    kind: str
    seed: str
    number: int
    inputs: int
    seconds: float
    cpu_seconds: float
    outcomes: dict[str, int]
    stricter: dict[str, int]
    violations: list[dict[str, Any]]


@dataclass
class Totals:
    path: Path | None
    seed: str
    chunks: list[Chunk] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path | None, seed: str) -> "Totals":
        """Read what earlier runs of this seed did; a last line that was cut off counts as not run."""
        totals = cls(path, seed)
        if path is not None and path.exists():
            totals.chunks += [chunk for chunk in _read(path) if chunk.seed == seed]
            if not path.read_text().endswith("\n"):
                with path.open("a") as file:
                    file.write("\n")  # or the next line would end what was cut off
        return totals

    def has(self, kind: str, number: int) -> bool:
        return any((chunk.kind, chunk.number) == (kind, number) for chunk in self.chunks)

    def add(self, chunk: Chunk) -> None:
        self.chunks.append(chunk)
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps(vars(chunk)) + "\n")

    def of(self, kind: str) -> "Totals":
        return Totals(None, self.seed, [chunk for chunk in self.chunks if chunk.kind == kind])

    @property
    def inputs(self) -> int:
        return sum(chunk.inputs for chunk in self.chunks)

    @property
    def seconds(self) -> float:
        return sum(chunk.seconds for chunk in self.chunks)

    @property
    def cpu_seconds(self) -> float:
        return sum(chunk.cpu_seconds for chunk in self.chunks)

    @property
    def outcomes(self) -> Counter[str]:
        return sum((Counter(chunk.outcomes) for chunk in self.chunks), Counter())

    @property
    def stricter(self) -> Counter[str]:
        return sum((Counter(chunk.stricter) for chunk in self.chunks), Counter())

    @property
    def violations(self) -> list[dict[str, Any]]:
        return [violation for chunk in self.chunks for violation in chunk.violations]


def _read(path: Path) -> Iterator[Chunk]:
    for line in path.read_text().splitlines():
        try:
            yield Chunk(**json.loads(line))
        except (ValueError, TypeError):
            continue
