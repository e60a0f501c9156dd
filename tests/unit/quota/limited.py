"""What tests of limits read of a ledger: the rows of a scope, and the rate of dollars."""

import pytest

from services.quota.domain.limit_set import Scope
from services.quota.domain.spending import Rate
from shared.money import MicroUsd
from tests.unit.quota.ledger import Ledger

ACCOUNT = Scope("account-1")


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def know_rate(ledger: Ledger, micro_usd_per_eth: int = 10**18) -> None:
    """By default a wei is a micro-dollar."""
    ledger.quota.observe_rate(Rate(MicroUsd(micro_usd_per_eth), "settings", ledger.now))


def rows(ledger: Ledger, scope: Scope = ACCOUNT) -> dict[str, tuple[int, int, int, int]]:
    view = ledger.limiting.view(scope, ledger.now)
    return {row.name: (row.limit, row.used, row.held, row.remaining) for row in view.rows}
