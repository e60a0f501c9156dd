"""Proves the checkers: breaks the code on purpose, one rule at a time, and sees a test fail.

Each mutant is made in a copy of the tree. First the tests that shall notice it must pass on an
unbroken copy, else their failing would say nothing.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

from tests.faults.mutants.mutants import MUTANTS, Mutant
from tests.faults.part import Findings

UNIT = "mutants"
AMOUNT = len(MUTANTS)

ROOT = Path(__file__).parents[3]
COPIED = ("services", "shared", "contracts", "tilt", "tests", "docs", "pyproject.toml", "README.md")
INSTALLED = Path(".local") / "npm"
TIMEOUT_SECONDS = 600
NO_TEST_FAILED, A_TEST_FAILED = 0, 1


def run(seed: int, amount: int) -> Iterator[Findings]:
    """Break each rule once, in an order that the seed gives; `amount` is at most all of them."""
    chosen = Random(seed).sample(MUTANTS, min(amount, len(MUTANTS)))
    sound: dict[Sequence[str], bool] = {}
    with _copy() as tree:
        for mutant in chosen:
            if mutant.tests not in sound:
                sound[mutant.tests] = _pytest(tree, mutant.tests) == NO_TEST_FAILED
            if not sound[mutant.tests]:
                yield Findings(1, Counter(), [f"{mutant.name}: its tests fail without it"])
                continue
            yield _try(tree, mutant)


def _try(tree: Path, mutant: Mutant) -> Findings:
    path = tree / mutant.path
    whole = path.read_text()
    if whole.count(mutant.old) != 1:
        return Findings(1, Counter(), [f"{mutant.name}: {mutant.path} does not have the rule (once)"])
    try:
        path.write_text(whole.replace(mutant.old, mutant.new))
        status = _pytest(tree, mutant.tests)
    finally:
        path.write_text(whole)
    if status == A_TEST_FAILED:
        return Findings(1, Counter(caught=1))
    told = "nothing noticed" if status == NO_TEST_FAILED else f"pytest ended with {status}"
    return Findings(1, Counter(), [f"{mutant.name}: {told}"])


def _pytest(tree: Path, tests: Sequence[str]) -> int:
    """The status of the tests in that tree; stopped at the first failure, and after ten minutes."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=tree, env=environment, capture_output=True, timeout=TIMEOUT_SECONDS, check=False
    )
    return done.returncode


@contextmanager
def _copy() -> Iterator[Path]:
    """The tree as it is, without what it has installed."""
    with tempfile.TemporaryDirectory(prefix="clearinghouse-mutants-") as directory:
        tree = Path(directory)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, tree / name)
        (tree / INSTALLED).parent.mkdir()
        (tree / INSTALLED).symlink_to(ROOT / INSTALLED)
        yield tree
