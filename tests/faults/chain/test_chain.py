"""A slice of the position chain's rounds; the long run is `python -m tests.faults chain`."""

from collections import Counter

import pytest

from tests.faults.chain.bad_line import LINE_FAULTS
from tests.faults.chain.part import ACTS, rounds
from tests.infra import Postgres
from tilt.slot import Slot

SEED = 1
ROUNDS = 4  # as many as it takes for every fault to come up


@pytest.mark.timeout(900)
def test_readers_end_where_the_log_ends_with_what_it_says(postgres: Postgres, slot: Slot) -> None:
    findings = list(rounds(postgres, slot, SEED, ROUNDS))

    assert [violation for found in findings for violation in found.violations] == []
    tried = sum((found.counted for found in findings), Counter[str]())
    assert {*tried} >= {*LINE_FAULTS, *ACTS}
