"""Totals add up over runs, whoever stops them, and say what was found."""

from collections import Counter
from pathlib import Path

import pytest

from tests.faults.mutants.mutants import MUTANTS, Mutant
from tests.faults.part import Findings
from tests.faults.parts import PARTS, load
from tests.faults.totals import Totals, table

ROOT = Path(__file__).parents[2]


def test_chunks_of_all_runs_and_seeds_add_up(tmp_path: Path) -> None:
    totals = Totals(tmp_path / "faults.json")

    totals.add("kills", "kills", 1, Findings(25, Counter({"payments": 7})))
    Totals(tmp_path / "faults.json").add("kills", "kills", 2, Findings(3, Counter({"payments": 4})))
    totals.add("races", "rounds", 1, Findings(10))

    found = totals.read()
    assert (found["kills"].tried, found["kills"].counted) == (28, Counter({"payments": 11}))
    assert found["kills"].seeds == {"1": 25, "2": 3}
    assert table(found).splitlines()[-1] == "violations: 0"


def test_what_was_found_is_printed_and_kept_until_the_part_begins_anew(tmp_path: Path) -> None:
    totals = Totals(tmp_path / "faults.json")

    totals.add("kills", "kills", 1, Findings(1, violations=["charged twice: request 5"]))
    totals.add("kills", "kills", 1, Findings(1))
    printed = table(totals.read())
    totals.forget("kills")

    assert "VIOLATED: charged twice: request 5" in printed
    assert printed.splitlines()[-1] == "violations: 1"
    assert totals.read() == {}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_what_a_mutant_breaks_stands_once_and_its_tests_are_there(mutant: Mutant) -> None:
    assert (ROOT / mutant.path).read_text().count(mutant.old) == 1
    assert [tests for tests in mutant.tests if not (ROOT / tests).exists()] == []


def test_every_part_offers_what_the_runner_needs() -> None:
    for name in PARTS:
        part = load(name)

        assert part.UNIT
        assert part.AMOUNT > 0
        assert callable(part.run)
