"""Two operators at once: what one has read is not what the other has set meanwhile."""

from typing import Any

import pytest

from contracts import limits
from contracts.message import Refusal
from services.edge.openapi import openapi
from tests.unit.edge.edge_app import Edge
from tests.unit.edge.managing import asked, manage, managed

pytestmark = pytest.mark.anyio

LIMITS = "/v1/accounts/acme/limits"
USERS = "/v1/accounts/acme/users/ann/limits"
KEYS = "/v1/accounts/acme/keys/{key_id}/limits"
PLAN = "/v1/plans/pro"
COMMANDS: dict[str, type[Any]] = {
    LIMITS: limits.SetLimits,
    USERS: limits.SetLimits,
    KEYS: limits.SetLimits,
    PLAN: limits.SetPlan,
}


@pytest.fixture
def edge() -> Edge:
    return managed()


def path_of(edge: Edge, path: str) -> str:
    return path.format(key_id=edge.issue().key_id)


@pytest.mark.parametrize("path", COMMANDS)
async def test_answers_say_which_version_is_set(edge: Edge, path: str) -> None:
    path = path_of(edge, path)

    read, written = await manage(edge, "GET", path), await manage(edge, "PUT", path, {})

    assert (read.status, written.status) == (200, 200), written.text
    assert (read.headers["etag"], written.headers["etag"]) == ('"2"', '"3"')


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/accounts/acme/plan", {"plan": "pro"}),
        ("/v1/accounts/acme/time-zone", {"time_zone": "Asia/Tokyo"}),
    ],
)
async def test_an_accounts_plan_and_clock_are_of_its_limits_version(
    edge: Edge, path: str, body: dict[str, str]
) -> None:
    answer = await manage(edge, "PUT", path, body)

    assert answer.headers["etag"] == '"2"'


@pytest.mark.parametrize("path", COMMANDS)
@pytest.mark.parametrize(
    ("headers", "version"),
    [({}, None), ({"if_match": '"2"'}, 2), ({"if_match": '"0"'}, 0), ({"if_match": 'W/"17"'}, 17)],
)
async def test_the_version_that_was_read_is_told_with_the_change(
    edge: Edge, path: str, headers: dict[str, str], version: int | None
) -> None:
    answer = await manage(edge, "PUT", path_of(edge, path), {}, **headers)

    [command] = asked(edge, COMMANDS[path])
    assert answer.status == 200, answer.text
    assert command["version"] == version


@pytest.mark.parametrize("path", COMMANDS)
async def test_what_was_changed_meanwhile_is_412(edge: Edge, path: str) -> None:
    subject = COMMANDS[path].subject
    edge.bus.answers[subject] = lambda _: Refusal(code="limits_changed", message="version 4 is set, not 2")

    answer = await manage(edge, "PUT", path_of(edge, path), {}, if_match='"2"')

    assert (answer.status, answer.json["code"]) == (412, "limits_changed")
    assert answer.json["title"] == "Precondition Failed"


@pytest.mark.parametrize("header", ["2", "*", '"a"', '"2", "3"', '"-1"', ""])
async def test_what_is_no_tag_of_ours_is_refused_and_not_passed_over(edge: Edge, header: str) -> None:
    answer = await manage(edge, "PUT", LIMITS, {}, if_match=header)

    assert (answer.status, answer.json["errors"][0]["field"]) == (422, "header.If-Match")
    assert not edge.bus.asked


async def test_the_document_tells_of_both() -> None:
    paths = openapi()["paths"]

    for path in ("/v1/accounts/{account_id}/limits", "/v1/plans/{name}"):
        put, get = paths[path]["put"], paths[path]["get"]
        assert "If-Match" in {parameter["name"] for parameter in put["parameters"]}
        assert list(put["responses"]["412"]["content"]) == ["application/problem+json"]
        assert "ETag" in put["responses"]["200"]["headers"]
        assert "ETag" in get["responses"]["200"]["headers"]
        assert "412" not in get["responses"]


@pytest.mark.parametrize("path", [USERS, KEYS])
async def test_a_limit_of_accounts_is_refused_for_others_by_its_name(edge: Edge, path: str) -> None:
    body = {"credit_limit_micro_usd": 0, "sessions_max": 1}

    answer = await manage(edge, "PUT", path_of(edge, path), body)

    assert (answer.status, answer.json["code"]) == (422, "invalid_request")
    assert [error["field"] for error in answer.json["errors"]] == ["body.credit_limit_micro_usd"]
    assert "is for accounts only" in answer.json["detail"]
    assert not asked(edge, limits.SetLimits)
    assert (await manage(edge, "PUT", LIMITS, body)).status == 200


@pytest.mark.parametrize("of", ["user_limits", "key_limits"])
async def test_nor_may_a_plan_set_it_for_users_or_keys(edge: Edge, of: str) -> None:
    body = {"credit_limit_micro_usd": 0}

    answer = await manage(edge, "PUT", PLAN, {of: body})

    assert (answer.status, answer.json["code"]) == (422, "invalid_request")
    assert [error["field"] for error in answer.json["errors"]] == [f"body.{of}.credit_limit_micro_usd"]
    assert not asked(edge, limits.SetPlan)
    assert (await manage(edge, "PUT", PLAN, {"limits": body})).status == 200


async def test_requests_without_an_app_may_be_allowed_beside_named_ones(edge: Edge) -> None:
    answer = await manage(edge, "PUT", LIMITS, {"apps": ["demo/echo", ""]})

    [command] = asked(edge, limits.SetLimits)
    assert (answer.status, command["limits"]["apps"]) == (200, ["demo/echo", ""])
