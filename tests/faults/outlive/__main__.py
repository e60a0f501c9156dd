"""Some outages only: `python -m tests.faults.outlive [part …] [--how restarted] [--ahead 30] [--seed 1]`."""

import argparse
import logging
import sys

import structlog

from tests.faults.outlive.part import PLAN, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.outlive")
    parser.add_argument("parts", nargs="*", metavar="part")
    parser.add_argument("--how", help="restarted, one killed, one halted, all halted or failed over")
    parser.add_argument("--ahead", type=int, help="seconds of credit ahead")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
    )
    plan = [
        outage
        for outage in PLAN
        if outage.part in (asked.parts or [outage.part])
        and outage.how == (asked.how or outage.how)
        and asked.ahead in {None, outage.credit_ahead_seconds}
    ]
    violations = [found for chunk in run(asked.seed, len(plan), plan) for found in chunk.violations]
    sys.stdout.write("".join(f"VIOLATED: {found}\n" for found in violations))
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
