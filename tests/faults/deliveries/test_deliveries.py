"""A slice of the storm of deliveries; the long run is `python -m tests.faults deliveries`."""

import pytest

from tests import infra
from tests.faults.deliveries.part import run_on

pytestmark = pytest.mark.timeout(600)  # seconds are enough, unless the machine has no time

SEED, AMOUNT = 1, 250


def test_whatever_becomes_of_deliveries_streams_come_to_one_state(postgres: infra.Postgres) -> None:
    [findings] = run_on(postgres, SEED, AMOUNT)

    assert findings.violations == []
    assert findings.tried == AMOUNT
    assert findings.counted["deliveries"] > 4 * AMOUNT
    assert AMOUNT / 4 < findings.counted["streams of which nothing was lost"] < AMOUNT
