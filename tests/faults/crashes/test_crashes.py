"""A slice of the crash points; the long run is `python -m tests.faults crashes`."""

from collections import Counter

import pytest

from tests import infra
from tests.faults.crashes.part import run_on

pytestmark = pytest.mark.timeout(600)  # seconds are enough, unless the machine has no time

SEED, AMOUNT = 7, 150


def test_wherever_a_process_dies_nothing_is_lost_or_doubled(postgres: infra.Postgres) -> None:
    tried, counted = 0, Counter[str]()
    for findings in run_on(postgres, SEED, AMOUNT):
        assert findings.violations == []
        tried += findings.tried
        counted += findings.counted

    assert tried >= AMOUNT
    for service in ("signer", "quota", "metering", "accounts", "deposit_watcher", "relay of signer"):
        assert any(point.startswith(service) for point in counted), service
    for what in ("payments signed", "tickets released", "grants", "closes", "freed"):
        assert counted[what], what
