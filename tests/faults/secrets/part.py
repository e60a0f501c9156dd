"""Canaries: the whole suite is run, test file by test file, and all it has printed is searched.

Its worlds log at debug. What is searched for is what each world made up for itself: passwords,
private keys, pepper; and whatever has the form of an API key.
"""

import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

from tests.faults.part import Findings
from tests.faults.secrets.canaries import Canaries
from tests.faults.secrets.search import in_bytes, in_files

UNIT = "test files"
SEEDS_APART = 1_000_003  # a run that goes on gets its seed and this, times what is done
ROOT = Path(__file__).parents[3]
FILES = sorted((ROOT / "tests").rglob("test_*.py"))
AMOUNT = len(FILES)
SECONDS_MAX = 3_600
NO_TESTS = 5


def run(seed: int, amount: int) -> Iterator[Findings]:
    seed, done = seed % SEEDS_APART, seed // SEEDS_APART
    files = Random(seed).sample(FILES, len(FILES))
    for path in files[done : done + amount]:
        with tempfile.TemporaryDirectory() as kept:
            yield _search(path, Path(kept))


def _search(path: Path, kept: Path) -> Findings:
    """Run one file of tests and search what it left."""
    name = str(path.relative_to(ROOT))
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--tb=no", "-o", f"timeout={SECONDS_MAX}", name],
        cwd=ROOT,
        env={**os.environ, "TESTS_KEEP": str(kept), "CANARIES": "all"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    secret = Canaries.of_slot(kept).secret
    logs = [log for log in kept.rglob("*.log*") if log.is_file()]
    found = [f"{name}: {which} in {log.name}" for which, log in in_files(logs, secret)]
    found += [f"{name}: {which} in what pytest printed" for which in in_bytes(ran.stdout, secret)]
    counted = Counter(
        logs=len(logs),
        bytes=sum(log.stat().st_size for log in logs),
        secrets=len(secret),
        files_with_failures=int(ran.returncode not in {0, NO_TESTS}),
    )
    return Findings(1, counted, found)
