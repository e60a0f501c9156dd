"""A signer, and an orchestrator's quote it would sign."""

import pytest

from tests.quotes import QuoteMaker
from tests.unit.signer.client import START, Signer


@pytest.fixture
def signer() -> Signer:
    return Signer()


@pytest.fixture
def quote() -> QuoteMaker:
    return QuoteMaker(START)
