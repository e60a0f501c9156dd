"""`make faults`: tries long what `make test` tries a slice of, and keeps the totals.

    python -m tests.faults [part …] [--seed N] [--amount N] [--anew] [--totals FILE]

A run that was stopped goes on where it was: what this seed has tried already is not tried again.
The last line is `violations: 0`, or what was found stands above it and the status is 1.
"""

import argparse
import logging
import sys
import time
from pathlib import Path

import structlog

from tests.faults.part import Part
from tests.faults.parts import PARTS, load
from tests.faults.totals import Totals, table

TOTALS = Path(__file__).parents[2] / "docs" / "faults.json"
SEEDS_APART = 1_000_003  # what is left of a stopped run is tried with a seed of its own


def main() -> int:
    options = _options()
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
    )
    totals = Totals(options.totals)
    names = options.parts or list(PARTS)
    for name in names:
        part = load(name)
        if options.anew:
            totals.forget(name)
        _run(name, part, totals, options.seed, options.amount or part.AMOUNT)
    found = {name: total for name, total in totals.read().items() if name in names}
    sys.stdout.write(table(found) + "\n")
    return 1 if any(total.violated for total in found.values()) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("parts", nargs="*", metavar="part", help=f"default: all of {', '.join(PARTS)}")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--amount", type=int, help="units of the part; default: of the recorded run")
    parser.add_argument("--anew", action="store_true", help="forget what these parts have tried before")
    parser.add_argument("--totals", type=Path, default=TOTALS, help="where totals are kept")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    return options


def _run(name: str, part: Part, totals: Totals, seed: int, amount: int) -> None:
    """Try what is missing of so many units."""
    done = totals.of(name, part.UNIT).seeds.get(str(seed), 0)
    if done >= amount:
        sys.stderr.write(f"{name}: {done} {part.UNIT} with seed {seed} are done; --anew begins again\n")
        return
    began = time.monotonic()
    for findings in part.run(seed + SEEDS_APART * done, amount - done):
        total = totals.add(name, part.UNIT, seed, findings)
        seconds = time.monotonic() - began
        sys.stderr.write(
            f"{name}: {total.seeds[str(seed)]} of {amount} {part.UNIT}, {seconds:.0f} s,"
            f" {total.violated} violations\n"
        )
        for violation in findings.violations:
            sys.stderr.write(f"  VIOLATED: {violation}\n")


if __name__ == "__main__":
    sys.exit(main())
