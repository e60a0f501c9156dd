"""`python -m tests.faults.drains [name ...]`: run drains against a fresh world, and print one table.

`DRAINS_SCALE` multiplies what is tried. The status is 1 if anything passed its cap.
"""

import argparse
import asyncio
import logging
import sys
import time

import aiohttp
import structlog

from tests.acceptance.system import System
from tests.faults.drains.bound import Drain, table
from tests.faults.drains.scripts import SCRIPTS
from tests.faults.world import running_world


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.drains")
    parser.add_argument("names", nargs="*", metavar="name", help="; ".join(SCRIPTS))
    names = parser.parse_args().names or list(SCRIPTS)
    if unknown := set(names) - set(SCRIPTS):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )
    drains: dict[str, Drain] = {}
    try:
        asyncio.run(_run(names, drains))
    finally:
        sys.stdout.write(table(drains) + "\n")
    return 1 if any(drain.broken for drain in drains.values()) else 0


async def _run(names: list[str], drains: dict[str, Drain]) -> None:
    """Run them one after the other; what is done is in `drains`, whatever comes."""
    with running_world() as processes:
        async with aiohttp.ClientSession() as http:
            system = System(*processes, http)
            for name in names:
                started = time.monotonic()
                drains[name] = await SCRIPTS[name](system)
                sys.stderr.write(f"{name}: {time.monotonic() - started:.1f} s\n")


if __name__ == "__main__":
    sys.exit(main())
