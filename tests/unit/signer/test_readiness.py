"""A signer is ready once it knows the rules, and the chain of one payer at least."""

import pytest

from services.signer.app import is_informed
from services.signer.payer import Payer
from services.signer.watched_rules import WatchedRules
from tests.quotes import chain_view
from tests.unit.signer.client import KEYS, START
from tests.unit.signer.rules_bucket import RulesBucket

pytestmark = pytest.mark.anyio

FUNDED = Payer(KEYS[0], lambda: chain_view(START))
UNSEEN = Payer(KEYS[0], lambda: None)


@pytest.mark.parametrize(
    ("payers", "has_rules", "ready"),
    [
        ([FUNDED], True, True),
        ([UNSEEN, FUNDED], True, True),
        ([UNSEEN], True, False),
        ([FUNDED], False, False),
    ],
)
async def test_it_is_ready_with_rules_and_a_chain(
    payers: list[Payer], *, has_rules: bool, ready: bool
) -> None:
    assert await is_informed(payers, WatchedRules(RulesBucket(ready=has_rules), RulesBucket())) == ready


async def test_rules_that_were_loaded_once_keep_it_ready() -> None:
    bucket = RulesBucket()
    rules = WatchedRules(bucket, bucket)
    assert await is_informed([FUNDED], rules)

    bucket.ready = False

    assert await is_informed([FUNDED], rules)
