"""`/v1` for plans and credit; quota and accounts are stand-ins."""

import pytest

from contracts import limits
from contracts.credit import GrantCredit, VoidCredit
from contracts.message import Refusal
from tests.unit.edge.edge_app import Edge
from tests.unit.edge.managing import ACTOR, asked, manage, managed, send

pytestmark = pytest.mark.anyio


@pytest.fixture
def edge() -> Edge:
    return managed()


async def test_plans_are_made_listed_and_read(edge: Edge) -> None:
    body = {"limits": {"streams_max": 2}, "user_limits": {"spend_per_day_wei": "9"}, "rank": 0, "trial": True}
    written = await manage(edge, "PUT", "/v1/plans/trial", {**body, "reason": "launch"})
    listed = await manage(edge, "GET", "/v1/plans")
    read = await manage(edge, "GET", "/v1/plans/pro")
    missing = await manage(edge, "GET", "/v1/plans/gold")

    [command] = asked(edge, limits.SetPlan)
    assert (command["actor"], command["reason"], command["plan"]["rank"]) == (ACTOR, "launch", 0)
    assert written.json["user_limits"]["spend_per_day_wei"] == "9"
    assert written.json["limits"]["streams_max"] == 2
    assert listed.json["plans"] == [read.json]
    assert (missing.status, missing.json["code"]) == (404, "plan_not_found")


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"idempotency_key": "order-4711"}, {}),
        ({}, {"grant_id": "order-4711"}),
        ({"idempotency_key": "order-4711"}, {"grant_id": "order-4711"}),
    ],
)
async def test_a_grant_is_named_by_the_header_or_the_body(
    edge: Edge, headers: dict[str, str], body: dict[str, str]
) -> None:
    told = {**body, "amount_micro_usd": 25_000_000, "credit": "trial", "priority": 3}
    granted = await manage(edge, "POST", "/v1/accounts/acme/credit", told, **headers)

    [command] = asked(edge, GrantCredit)
    assert granted.status == 201
    assert (command["grant_id"], command["actor"]) == ("order-4711", ACTOR)
    assert granted.json["grants"][0]["amount_micro_usd"] == 25_000_000


@pytest.mark.parametrize(
    ("headers", "body"), [({}, {}), ({"idempotency_key": "one"}, {"grant_id": "another"})]
)
async def test_a_grant_has_one_name(edge: Edge, headers: dict[str, str], body: dict[str, str]) -> None:
    told = {**body, "amount_micro_usd": 1}
    refused = await manage(edge, "POST", "/v1/accounts/acme/credit", told, **headers)

    assert (refused.status, refused.json["errors"][0]["field"]) == (422, "body.grant_id")
    assert not asked(edge, GrantCredit)


async def test_other_content_under_a_grants_name_is_a_conflict(edge: Edge) -> None:
    edge.bus.answers[GrantCredit.subject] = lambda _: Refusal(code="credit_grant_id_taken", message="taken")
    body = {"grant_id": "one", "amount_micro_usd": 1}

    refused = await manage(edge, "POST", "/v1/accounts/acme/credit", body)

    assert (refused.status, refused.json["code"]) == (409, "credit_grant_id_taken")


async def test_credit_is_read_and_taken_back(edge: Edge) -> None:
    read = await send(edge, "GET", "/v1/accounts/acme/credit", edge.issue().text)
    voided = await manage(edge, "DELETE", "/v1/accounts/acme/credit/grant-1?reason=mistake")

    assert read.json["prepaid_micro_usd"] == 6
    assert (voided.status, voided.json["grants"][0]["grant_id"]) == (200, "grant-1")
    [command] = asked(edge, VoidCredit)
    assert (command["grant_id"], command["actor"], command["reason"]) == ("grant-1", ACTOR, "mistake")
