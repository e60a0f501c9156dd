"""A slice of the races; the long run is `python -m tests.faults races`."""

import pytest

from tests import infra
from tests.faults.races.part import run_on
from tests.faults.races.rounds import ROUNDS

pytestmark = pytest.mark.timeout(600)  # seconds are enough, unless the machine has no time

SEED, AMOUNT = 1, 60


def test_what_two_replicas_race_for_goes_to_one(postgres: infra.Postgres) -> None:
    [findings] = run_on(postgres, SEED, AMOUNT)

    assert findings.violations == []
    assert findings.tried == AMOUNT
    assert len(findings.counted) == len(ROUNDS)
