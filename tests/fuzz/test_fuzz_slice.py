"""A slice of `make fuzz`: the same inputs each time, and few enough for every run of the tests."""

import json

import pytest

from tests.fuzz import reasons
from tests.fuzz.fuzz import run_chunk
from tests.fuzz.setting import UNUSUAL
from tests.fuzz.totals import Chunk, Totals

SEED = "slice"
CHUNKS = 2 * len(UNUSUAL)  # each setting once, and the ordinary one in between
INPUTS = 500
SELDOM = frozenset(
    {
        "job paid upfront",
        "recipient not listed",
        "no JSON object",
        "auth token too long",
        "another text too long",
    }
)


@pytest.fixture(scope="module")
def totals() -> Totals:
    return Totals(None, SEED, [run_chunk(SEED, number, INPUTS) for number in range(CHUNKS)])


def test_nothing_is_accepted_that_the_rules_forbid(totals: Totals) -> None:
    shown = [json.dumps(violation, ensure_ascii=False) for violation in totals.violations]

    assert not shown, "\n".join(shown[:5])


def test_the_fuzzer_is_not_blind(totals: Totals) -> None:
    outcomes = totals.outcomes
    missed = {name for name, count in reasons.count(outcomes).items() if not count}

    assert outcomes["accepted: signed"] > totals.inputs // 20
    assert missed <= SELDOM
    assert not reasons.unnamed(outcomes), "give it a name in tests/fuzz/reasons.py"


def test_a_chunk_is_the_same_whenever_it_is_run(totals: Totals) -> None:
    again = run_chunk(SEED, 3, INPUTS)

    assert _without_time(again) == _without_time(totals.chunks[3])


def _without_time(chunk: Chunk) -> dict[str, object]:
    return {**vars(chunk), "seconds": 0, "cpu_seconds": 0}
