"""What the edge's own caps refuse leaves a trace: a count by cap, and a line in the log now and then."""

from collections.abc import Awaitable, Callable

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from contracts import api_keys
from contracts.limits import Scoped
from services.edge import admission
from services.edge.admission import Paces
from services.edge.caps import Pace
from tests.unit.edge.edge_app import Answer, Edge

pytestmark = pytest.mark.anyio

NARROW = Pace(per_second=0.001, burst=1)

type Flood = Callable[[Edge, api_keys.Key], Awaitable[Answer]]


async def _pay(edge: Edge, key: api_keys.Key) -> Answer:
    return await edge.pay(key.text)


async def _pay_without(edge: Edge, _: api_keys.Key) -> Answer:
    return await edge.pay("nonsense")


async def _pay_made_up(edge: Edge, _: api_keys.Key) -> Answer:
    return await edge.pay(api_keys.make().text)


async def _exchange(edge: Edge, key: api_keys.Key) -> Answer:
    return await edge.exchange(key.text, user_id="ann")


@pytest.mark.parametrize(
    ("cap", "flood", "named"),
    [
        ("payments_of_key", _pay, True),
        ("tokens_of_key", _exchange, True),
        ("no_valid_key", _pay_without, False),
        ("no_valid_key", _pay_made_up, False),
    ],
)
async def test_each_cap_is_counted_and_told_once_for_many(
    monkeypatch: pytest.MonkeyPatch, cap: str, flood: Flood, *, named: bool
) -> None:
    monkeypatch.setattr(admission, "TOKENS", NARROW)
    edge = Edge(Paces(unknown=NARROW, payments=NARROW))
    key = edge.issue()
    before = _counted(cap)

    with capture_logs() as lines:
        statuses = [(await flood(edge, key)).status for _ in range(5)]

    assert statuses[1:] == [429] * 4
    assert _counted(cap) - before == 4
    of_whom = ("acme", key.key_id) if named else (None, None)
    told = [line for line in lines if line["event"] == "requests_capped"]
    assert [(line["cap"], line["account_id"], line["key_id"]) for line in told] == [(cap, *of_whom)]


async def test_a_tokens_own_pace_is_a_cap_of_its_own() -> None:
    edge = Edge()
    token = (await edge.exchange(edge.issue().text, user_id="ann")).json
    edge.rule(Scoped(account_id="acme", token_id=token["token_id"]), rules={"payments_per_second": 1})
    before = _counted("payments_of_token")

    statuses = [(await edge.pay(token["access_token"])).status for _ in range(6)]

    assert statuses.count(429) == _counted("payments_of_token") - before > 0


async def test_another_key_is_told_of_by_itself() -> None:
    edge = Edge(Paces(unknown=None, payments=NARROW))
    keys = [edge.issue(), edge.issue()]

    with capture_logs() as lines:
        for key in keys * 3:
            await edge.pay(key.text)

    told = [line["key_id"] for line in lines if line["event"] == "requests_capped"]
    assert told == [key.key_id for key in keys]


def _counted(cap: str) -> float:
    return REGISTRY.get_sample_value("edge_capped_requests_total", {"cap": cap}) or 0.0
