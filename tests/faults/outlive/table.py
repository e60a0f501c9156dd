"""What was seen of each outage, and the tables people read."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

type How = Literal["one killed", "one halted", "restarted", "failed over", "all halted", "undisturbed"]

NAMES = {
    "nats": "NATS",
    "postgres": "PostgreSQL",
    "rpc": "the chain's RPC",
    "deposit_watcher": "deposit watcher",
    "signer-relay": "the signer's relay",
}
NOTHING = "-"
HARMLESS: tuple[How, ...] = ("restarted", "one killed", "one halted", "failed over")


@dataclass(frozen=True)
class Outage:
    part: str
    how: How
    credit_ahead_seconds: int = 0


@dataclass(frozen=True)
class Row:
    """What became of the streams.

    With all of a part halted for `survived_seconds` none was cut; the first was after `cut_seconds`.
    """

    part: str
    how: How
    credit_ahead_seconds: int
    streams: int
    lost: int
    seconds: float  # from the beginning of the outage until all was ready again
    no_commit_seconds: float  # the longest time in which nobody could commit
    survived_seconds: float | None = None
    cut_seconds: float | None = None
    problem: str = ""


def markdown(rows: Sequence[Row]) -> str:
    return "\n\n".join(table for table in (_away(rows), _halted(rows)) if table)


def _away(rows: Sequence[Row]) -> str:
    """One of two away, and everything restarted: how many streams were lost."""
    parts = _in_order(row.part for row in rows if row.how in HARMLESS)
    lines = [_line([NAMES.get(part, part), *(_lost(rows, part, how) for how in HARMLESS)]) for part in parts]
    if not lines:
        return ""
    head = ["", "restarted, one after the other", "one killed", "one halted for 20 s", "failed over"]
    return "\n".join([_line(head), _line("---" for _ in head), *lines])


def _halted(rows: Sequence[Row]) -> str:
    """All of them halted: how long streams live on, by what they were paid ahead."""
    halted = [row for row in rows if row.how == "all halted"]
    credits_ahead = sorted({row.credit_ahead_seconds for row in halted})
    if not halted:
        return ""
    lines = [
        _line([NAMES.get(part, part), *(_survived(halted, part, seconds) for seconds in credits_ahead)])
        for part in _in_order(row.part for row in halted)
    ]
    head = ["all halted", *(f"paid {seconds} s ahead" for seconds in credits_ahead)]
    return "\n".join([_line(head), _line("---" for _ in head), *lines])


def _lost(rows: Sequence[Row], part: str, how: How) -> str:
    found = [row for row in rows if (row.part, row.how) == (part, how)]
    return "; ".join(f"{row.lost} of {row.streams} lost, {row.seconds:.1f} s" for row in found) or NOTHING


def _survived(rows: Sequence[Row], part: str, credit: int) -> str:
    for row in rows:
        if (row.part, row.credit_ahead_seconds) == (part, credit):
            lived = f"{row.survived_seconds or 0:.0f} s"
            cut = f" (first cut after {row.cut_seconds:.0f} s)" if row.cut_seconds else " and more"
            return lived + cut
    return NOTHING


def _in_order(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
