"""The checker is independent of what it checks, and each of its rules bites."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.acceptance.system import System
from tests.faults.checker.checker import Checker
from tests.faults.checker.forgeries import FORGERIES, noticed
from tests.faults.kills.load import load

pytestmark = pytest.mark.timeout(400)  # deadlines are for slow machines

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
OURS = ("services", "shared", "contracts", "tilt")
IMPORT_ALL = f"""
import sys
import tests.faults.checker.checker
print(*[name for name in sys.modules if name.split(".")[0] in {OURS!r}])
"""
SERVED_SECONDS = 60


def test_the_checker_loads_nothing_of_what_it_checks() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True, check=True, cwd=ROOT
    )

    assert done.stdout.split() == []


def test_there_is_a_forgery_for_each_rule() -> None:
    modules = ("rules.py", "limit_rules.py", "limits.py", "checker.py")
    rules = {text for module in modules for text in _rules(HERE / module)}

    assert rules == FORGERIES.keys()


@pytest.mark.anyio
async def test_rows_of_a_sound_system_hold_and_each_forgery_in_them_is_noticed(replicated: System) -> None:
    async with load(replicated, Random("forgeries"), steady=6, refusable=0) as running:
        await running.until_served(seconds=SERVED_SECONDS)
    evidence = await running.evidence(orchestrator=True)
    checker = Checker(replicated.world.dsn())

    _, found = checker.check_settled(evidence, seconds=SERVED_SECONDS)
    evidence.entries, evidence.credit = await running.entries(), await running.credit()
    books, also = checker.check(evidence, seconds=SERVED_SECONDS)

    assert (found, also, running.problems()) == ([], [], [])
    assert noticed(books, evidence) == dict.fromkeys(FORGERIES, True)


def _rules(path: Path) -> Iterator[str]:
    """The first argument of each call that makes violations."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"Violation", "differences"}:
            first = node.args[0]
            if isinstance(first, ast.Constant):
                yield str(first.value)
