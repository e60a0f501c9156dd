"""What an attack got, against what bounds it; and the table of all of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

HEADINGS = ("script", "tried", "what", "got", "cap", "verdict")


@dataclass(frozen=True)
class Bound:
    """`got` may be `cap` at most. Below `least` the attack did not work, and shows nothing."""

    what: str
    got: int
    cap: int
    least: int = 0

    @property
    def verdict(self) -> str:
        if self.got > self.cap:
            return "PASSES THE CAP"
        return "holds" if self.got >= self.least else "SHOWS NOTHING"

    @property
    def holds(self) -> bool:
        return self.least <= self.got <= self.cap


def exactly(what: str, got: int, expected: int) -> Bound:
    return Bound(what, got, expected, least=expected)


def none_of(what: str, got: int) -> Bound:
    return Bound(what, got, 0)


@dataclass(frozen=True)
class Drain:
    """One attack, as it went."""

    tried: str
    bounds: Sequence[Bound]

    @property
    def broken(self) -> list[Bound]:
        return [bound for bound in self.bounds if not bound.holds]


def table(drains: Mapping[str, Drain]) -> str:
    """One table in Markdown, a line a bound."""
    rows = [HEADINGS, *(row for name, drain in drains.items() for row in _rows(name, drain))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = [_line(row, widths) for row in rows]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def _rows(name: str, drain: Drain) -> Iterator[tuple[str, ...]]:
    first = (name, drain.tried)
    for bound in drain.bounds:
        yield (*first, bound.what, f"{bound.got:,}", f"{bound.cap:,}", bound.verdict)
        first = ("", "")


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
    return "| " + " | ".join(cells) + " |"
