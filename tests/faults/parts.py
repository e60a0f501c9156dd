"""What `make faults` can run: the parts by name, in the order they run."""

from importlib import import_module
from typing import cast

from tests.faults.part import Part

PARTS = {
    "chain": "tests.faults.chain.part",
    "deliveries": "tests.faults.deliveries.part",
    "crashes": "tests.faults.crashes.part",
    "races": "tests.faults.races.part",
    "kills": "tests.faults.kills.part",
    "imports": "tests.faults.imports.part",
    "hangs": "tests.faults.hangs.part",
    "overload": "tests.faults.hangs.overload",
    "outlive": "tests.faults.outlive.part",
    "canaries": "tests.faults.secrets.part",
    "upgrades": "tests.faults.secrets.upgrades",
    "restore": "tests.faults.restore.part",
    "mutants": "tests.faults.mutants.part",
}


def load(name: str) -> Part:
    """Import a part only when it runs, as some need long."""
    return cast("Part", import_module(PARTS[name]))
