"""`/v1` for limits and whose key it is; quota and accounts are stand-ins."""

from datetime import timedelta
from typing import Any

import pytest

from contracts import limits
from contracts.limits import Scoped
from contracts.message import Refusal
from contracts.quota import BudgetView, SetSpendLimit
from tests.unit.edge.edge_app import Edge
from tests.unit.edge.managing import ACTOR, HOUR_FIELDS, asked, manage, managed, send

pytestmark = pytest.mark.anyio

LIMITS = "/v1/accounts/acme/limits"
RECIPIENT = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"


@pytest.fixture
def edge() -> Edge:
    return managed()


async def test_an_account_reads_its_limits_and_what_is_left_of_each(edge: Edge) -> None:
    read = await send(edge, "GET", LIMITS, edge.issue().text)

    found = read.json
    assert (found["plan"], found["time_zone"], found["sessions"], found["streams"]) == ("pro", "UTC", 2, 1)
    assert found["most_micro_usd"] == 5
    assert found["limits"][1] == {
        "name": "spend_per_hour_micro_usd",
        "limit": "900",
        "used": "850",
        "held": "50",
        "remaining": "0",
        "resets_at": "2031-05-17T09:00:00Z",
    }
    assert found["own"]["spend_limit_wei"] is None
    assert found["effective"]["spend_limit_wei"] == str(2**70)
    assert found["effective"]["expires_at"] == "2031-06-01T00:00:00Z"
    gwei = 2**70 // 10**9
    assert read.headers["ratelimit-policy"] == f'"spend_limit_gwei";q={gwei}, {HOUR_FIELDS[0]}'
    assert read.headers["ratelimit"] == f'"spend_limit_gwei";r={gwei}, {HOUR_FIELDS[1]}'


async def test_what_clients_read_before_is_still_there(edge: Edge) -> None:
    found = (await manage(edge, "GET", LIMITS)).json

    names = ("spend_limit_wei", "spent_wei", "held_wei", "remaining_wei", "suspended")
    assert [found[name] for name in names] == [str(2**70), "3", "1", str(2**70 - 4), False]


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        (LIMITS, {}),
        ("/v1/accounts/acme/users/ann:1/limits", {"user_id": "ann:1"}),
        ("/v1/accounts/acme/keys/{key}/limits", {"key_id": "{key}"}),
    ],
)
async def test_setting_limits_replaces_them_and_says_who_and_why(
    edge: Edge, path: str, scope: dict[str, str]
) -> None:
    key = edge.issue()
    body = {
        "spend_per_day_wei": str(2**255),
        "spend_per_hour_micro_usd": 1_500_000,
        "streams_max": 3,
        "recipients": [RECIPIENT],
        "networks": ["192.0.2.0/24"],
        "job_types": ["live", ""],
        "prices_max": {"live": "1200/7"},
        "expires_at": "2031-06-01T02:00:00+02:00",
        "overage": False,
        "reason": "upgrade_2031",
    }

    written = await manage(edge, "PUT", path.replace("{key}", key.key_id), body)

    assert written.status == 200, written.text
    [command] = asked(edge, limits.SetLimits)
    told = {name: value for name, value in command["limits"].items() if value is not None}
    expected = {name: value for name, value in body.items() if name != "reason"}
    lowered = {"recipients": [RECIPIENT.lower()], "expires_at": "2031-06-01T02:00:00+02:00"}
    assert told == {**expected, **lowered}
    assert (command["actor"], command["reason"]) == (ACTOR, "upgrade_2031")
    named = {name: value.replace("{key}", key.key_id) for name, value in scope.items()}
    assert {name: command[name] for name in named} == named
    assert written.json["own"]["spend_per_day_wei"] == str(2**255)
    assert "ratelimit" in written.headers


async def test_the_old_body_still_works(edge: Edge) -> None:
    written = await manage(edge, "PUT", LIMITS, {"spend_limit_wei": "7"})

    [command] = asked(edge, limits.SetLimits)
    assert written.status == 200
    assert (command["limits"]["spend_limit_wei"], command["reason"]) == ("7", "unspecified")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"spend_limit_wei": 7}, "spend_limit_wei"),
        ({"spend_limit_wei": "-7"}, "spend_limit_wei"),
        ({"spend_limit_wei": "1_0"}, "spend_limit_wei"),
        ({"spend_limit_wei": "9" * 78}, "spend_limit_wei"),
        ({"spend_per_hour_micro_usd": "7"}, "spend_per_hour_micro_usd"),
        ({"spend_per_hour_micro_usd": 10**15 + 1}, "spend_per_hour_micro_usd"),
        ({"streams_max": True}, "streams_max"),
        ({"streams_max": 1.5}, "streams_max"),
        ({"overage": "yes"}, "overage"),
        ({"prices_max": {"live": "1/0"}}, "prices_max.live"),
        ({"job_types": ["film"]}, "job_types.0"),
        ({"networks": ["192.0.2.1/24"]}, "networks.0"),
        ({"recipients": [RECIPIENT.replace("aA", "AA")]}, "recipients.0"),
        ({"expires_at": 1_900_000_000}, "expires_at"),
        ({"expires_at": {}}, "expires_at"),
        ({"expires_at": "2031-06-01T00:00:00"}, "expires_at"),
        ({"reason": "because he said so"}, "reason"),
        ({"spend_limit": "7"}, "spend_limit"),
    ],
)
async def test_a_mistake_is_named_by_its_field(edge: Edge, body: dict[str, Any], field: str) -> None:
    answer = await manage(edge, "PUT", LIMITS, body)

    assert (answer.status, answer.json["code"]) == (422, "invalid_request")
    assert {error["field"] for error in answer.json["errors"]} == {f"body.{field}"}
    assert not asked(edge, limits.SetLimits)


@pytest.mark.parametrize(
    ("path", "body", "command"),
    [
        ("/v1/accounts/acme/plan", {"plan": "pro"}, limits.AssignPlan),
        ("/v1/accounts/acme/plan", {"plan": None, "reason": "ended"}, limits.AssignPlan),
        ("/v1/accounts/acme/time-zone", {"time_zone": "America/Port-au-Prince"}, limits.SetTimeZone),
    ],
)
async def test_plan_and_time_zone_of_an_account(
    edge: Edge, path: str, body: dict[str, Any], command: type[Any]
) -> None:
    answer = await manage(edge, "PUT", path, body)

    [told] = asked(edge, command)
    assert answer.status == 200, answer.text
    assert told == {"account_id": "acme", "reason": "unspecified", "actor": ACTOR, **body}
    assert answer.json["limits"]


async def test_refusals_of_quota_keep_their_code(edge: Edge) -> None:
    edge.bus.answers[limits.AssignPlan.subject] = lambda _: Refusal(code="plan_not_found", message="no plan")
    edge.bus.answers[limits.SetTimeZone.subject] = lambda _: Refusal(code="bad_time_zone", message="none")

    missing = await manage(edge, "PUT", "/v1/accounts/acme/plan", {"plan": "gold"})
    bad = await manage(edge, "PUT", "/v1/accounts/acme/time-zone", {"time_zone": "Mars"})

    assert (missing.status, missing.json["code"]) == (404, "plan_not_found")
    assert (bad.status, bad.json["code"]) == (422, "bad_time_zone")


@pytest.mark.parametrize(
    "path",
    [LIMITS, "/v1/accounts/acme/users/ann/limits", "/v1/accounts/acme/credit"],
)
async def test_an_account_reads_its_own_and_a_foreign_one_answers_like_a_missing_one(
    edge: Edge, path: str
) -> None:
    own, foreign = edge.issue("acme").text, edge.issue("other").text

    refused = await send(edge, "GET", path, foreign)
    missing = await send(edge, "GET", path.replace("acme", "nobody"), foreign)

    assert (await send(edge, "GET", path, own)).status == 200
    assert (refused.status, refused.json["code"]) == (404, "account_not_found")
    assert missing.json["detail"] == refused.json["detail"].replace("acme", "nobody")


async def test_a_users_key_reads_its_own_user_and_itself_and_no_more(edge: Edge) -> None:
    key, other = edge.issue("acme", "ann"), edge.issue("acme", "bob")
    base = "/v1/accounts/acme"

    async def status(path: str) -> int:
        return (await send(edge, "GET", path, key.text)).status

    assert await status(f"{base}/users/ann/limits") == 200
    assert await status(f"{base}/keys/{key.key_id}/limits") == 200
    assert await status(f"{base}/users/bob/limits") == 403
    assert await status(f"{base}/users/nobody/limits") == 403
    assert await status(f"{base}/keys/{other.key_id}/limits") == 403
    assert await status(f"{base}/keys/000000000000/limits") == 403
    assert await status(LIMITS) == 403
    assert await status("/v1/accounts/other/users/ann/limits") == 404


async def test_a_session_token_does_not_read_what_its_key_may_spend(edge: Edge) -> None:
    key = edge.issue("acme")
    assert edge.tokens is not None
    token = edge.tokens.make(
        account_id="acme", user_id="ann", key_id=key.key_id, lifetime=timedelta(hours=1), limited=False
    )

    answer = await send(edge, "GET", f"/v1/accounts/acme/keys/{key.key_id}/limits", token.text)

    assert (answer.status, answer.json["code"]) == (403, "account_key_needed")
    assert not asked(edge, limits.ReadLimits)


async def test_a_foreign_key_answers_like_a_missing_one(edge: Edge) -> None:
    mine, foreign = edge.issue("acme"), edge.issue("other")

    answers = [
        await send(edge, "GET", f"/v1/accounts/acme/keys/{key_id}/limits", mine.text)
        for key_id in (foreign.key_id, "000000000000")
    ]
    written = await manage(edge, "PUT", f"/v1/accounts/acme/keys/{foreign.key_id}/limits", {})

    assert [(answer.status, answer.json["code"]) for answer in answers] == [(404, "key_not_found")] * 2
    assert written.status == 404
    assert not asked(edge, limits.SetLimits)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", LIMITS),
        ("PUT", "/v1/accounts/acme/users/ann/limits"),
        ("PUT", "/v1/accounts/acme/keys/000000000000/limits"),
        ("PUT", "/v1/accounts/acme/plan"),
        ("PUT", "/v1/accounts/acme/time-zone"),
        ("GET", "/v1/plans"),
        ("GET", "/v1/plans/pro"),
        ("PUT", "/v1/plans/pro"),
        ("POST", "/v1/accounts/acme/credit"),
        ("DELETE", "/v1/accounts/acme/credit/grant-1"),
        ("GET", "/v1/stops"),
        ("POST", "/v1/stops"),
        ("POST", "/v1/stops/lift"),
        ("GET", "/v1/audit"),
    ],
)
async def test_an_account_does_not_administer(edge: Edge, method: str, path: str) -> None:
    key = edge.issue("acme")
    refused = await send(edge, method, path, key.text, {})
    nobody = await send(edge, method, path, None, {})

    assert (refused.status, refused.json["code"]) == (403, "administrator_needed")
    assert nobody.status == 401
    assert not edge.bus.asked


async def test_opening_an_account_with_a_limit_says_who(edge: Edge) -> None:
    edge.bus.answers["cmd.accounts.open_account.v1"] = edge.bus.answers["cmd.accounts.get_account.v1"]
    edge.bus.answers[SetSpendLimit.subject] = lambda data: BudgetView(
        account_id="acme", spend_limit=data["spend_limit"], spent=0, held=0, remaining=7, suspended=False
    )

    opened = await manage(edge, "POST", "/v1/accounts", {"account_id": "acme", "spend_limit_wei": "7"})

    [command] = asked(edge, SetSpendLimit)
    assert opened.status == 201
    assert (command["spend_limit"], command["actor"], command["reason"]) == ("7", ACTOR, "account_opened")


async def test_me_tells_a_key_what_is_counted_of_its_holder(edge: Edge) -> None:
    account, user = edge.issue("acme"), edge.issue("acme", "ann")

    of_account = (await send(edge, "GET", "/v1/me", account.text)).json
    of_user = await send(edge, "GET", "/v1/me", user.text)

    assert (of_account["role"], of_account["key_id"]) == ("account", account.key_id)
    assert {name: bool(rows) for name, rows in of_account["limits"].items()} == {
        "account": True,
        "user": False,
        "key": True,
    }
    assert (of_user.json["user_id"], of_user.json["limits"]["account"]) == ("ann", None)
    assert of_user.json["limits"]["user"][1]["remaining"] == "0"
    left = of_user.headers["ratelimit"].split(", ")
    assert [item.partition(";")[0] for item in left] == [
        '"user.spend_limit_gwei"',
        '"user.spend_per_hour_micro_usd"',
        '"key.spend_limit_gwei"',
        '"key.spend_per_hour_micro_usd"',
    ]
    scopes = [Scoped.model_validate(data) for data in asked(edge, limits.ReadLimits)]
    assert Scoped(account_id="acme", user_id="ann") in scopes
    assert (await manage(edge, "GET", "/v1/me")).json["role"] == "administrator"


async def test_me_is_told_even_while_quota_is_away(edge: Edge) -> None:
    edge.bus.answers[limits.ReadLimits.subject] = None

    answer = await send(edge, "GET", "/v1/me", edge.issue().text)

    assert (answer.status, answer.json["limits"]) == (200, None)
    assert "ratelimit" not in answer.headers


async def test_limits_are_not_told_while_quota_is_away(edge: Edge) -> None:
    edge.bus.answers[limits.ReadLimits.subject] = None

    answer = await manage(edge, "GET", LIMITS)

    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
