"""`/v1` of the edge as a process: who may ask what, and how mistakes are answered."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from tests import infra
from tests.integration.edge_world import (
    FUNDS,
    KEYLESS_PAYER,
    POOLS,
    SECOND_PAYER,
    SECOND_PAYER_CHECKSUMMED,
    UNFUNDED_PAYER,
    World,
    running_edge,
)
from tests.integration.service_process import bus_user
from tilt.slot import Slot

pytestmark = pytest.mark.anyio

NATS_USERS = (bus_user("accounts"), bus_user("edge"))


@dataclass
class Tenants:
    acme: str
    other: str
    user: str  # a key of one user of acme


@pytest.fixture(scope="module")
async def world(postgres: infra.Postgres, nats: infra.Nats, slot: Slot) -> AsyncIterator[World]:
    directory = slot.directory / "edge-management"
    directory.mkdir(exist_ok=True)
    with postgres.database("accounts") as database:
        async with running_edge(nats, database.dsn("accounts"), slot, directory) as world:
            yield world


@pytest.fixture(scope="module")
async def tenants(world: World) -> Tenants:
    acme, other = await world.new_key("acme"), await world.new_key("other")
    user = await world.new_key("acme", "user-1")
    return Tenants(acme["api_key"], other["api_key"], user["api_key"])


async def test_opening_an_account_again_answers_the_same(world: World) -> None:
    body = {"account_id": "twice", "spend_limit_wei": str(FUNDS)}
    first = await world.manage("POST", "/v1/accounts", body)
    again = await world.manage("POST", "/v1/accounts", body)

    assert (first.status, first.json) == (again.status, again.json)
    assert first.json["opened_at"].endswith("Z")
    assert first.text.endswith("}\n")


async def test_pages_of_accounts_follow_one_another(world: World) -> None:
    for number in range(5):
        await world.manage("POST", "/v1/accounts", {"account_id": f"page-{number}"})
    found, cursor = [], ""
    while cursor is not None:
        page = await world.manage("GET", f"/v1/accounts?limit=2{cursor and '&cursor=' + cursor}")
        found += [account["account_id"] for account in page.json["accounts"]]
        cursor = page.json["next"]

    assert found == sorted(set(found))
    assert {f"page-{number}" for number in range(5)} <= set(found)


async def test_limits_are_wei_as_text(world: World, tenants: Tenants) -> None:
    written = await world.manage("PUT", "/v1/accounts/acme/limits", {"spend_limit_wei": str(FUNDS)})
    read = await world.call("GET", "/v1/accounts/acme/limits", key=tenants.acme)

    assert written.json["spend_limit_wei"] == written.json["own"]["spend_limit_wei"] == str(FUNDS)
    assert read.json["remaining_wei"] == "3"
    assert read.headers["RateLimit"] == '"spend_limit_wei";r=3'
    assert (await world.manage("GET", "/v1/accounts/nobody/limits")).status == 404


async def test_limits_of_users_and_keys_are_set_by_an_administrator(world: World, tenants: Tenants) -> None:
    key = (await world.call("GET", "/v1/me", key=tenants.user)).json["key_id"]
    paths = ["/v1/accounts/acme/users/user-1/limits", f"/v1/accounts/acme/keys/{key}/limits"]

    written = [await world.manage("PUT", path, {"streams_max": 2, "reason": "trial"}) for path in paths]
    read = [await world.call("GET", path, key=tenants.user) for path in paths]
    foreign = await world.manage("PUT", f"/v1/accounts/other/keys/{key}/limits", {"streams_max": 2})

    assert [answer.status for answer in (*written, *read)] == [200] * 4
    [of_user, of_key] = world.stand_ins.limits_set[-2:]
    assert (of_user.user_id, of_key.key_id) == ("user-1", key)
    assert {(command.actor[:6], command.reason) for command in (of_user, of_key)} == {("admin:", "trial")}
    assert (foreign.status, foreign.json["code"]) == (404, "key_not_found")


async def test_usage_is_asked_of_metering_with_its_cursor(world: World, tenants: Tenants) -> None:
    path = "/v1/accounts/acme/usage?group_by=user&group_by=hour&limit=1&from=2031-05-17T08:00:00Z"
    first = await world.call("GET", path, key=tenants.acme)
    await world.call("GET", f"{path}&cursor={first.json['next']}", key=tenants.acme)

    asked = world.stand_ins.usage_asked[-1]
    assert first.json["usage"][0]["cost_wei"] == str(FUNDS)
    assert asked.after == ["user-1", "hour-1"]
    assert (asked.account_id, asked.group_by) == ("acme", ["user", "hour"])
    total = await world.manage("GET", "/v1/usage")
    assert (total.json["next"], world.stand_ins.usage_asked[-1].account_id) == (None, None)


async def test_a_session_and_its_timeline(world: World, tenants: Tenants) -> None:
    session = await world.call("GET", "/v1/sessions/session-of-acme", key=tenants.acme)
    timeline = await world.manage("GET", "/v1/sessions/session-of-acme/timeline?account=acme")

    assert session.json["cost_wei"] == str(FUNDS)
    assert timeline.json["timeline"] == [
        {"at": "2031-05-17T08:00:00Z", "event": "refused", "text": "402: the limit is reached"}
    ]
    assert (await world.manage("GET", "/v1/sessions/session-of-acme")).json["errors"][0]["field"] == (
        "query.account"
    )


async def test_an_account_names_its_payer_and_keys_show_theirs(world: World) -> None:
    opened = await world.manage("POST", "/v1/accounts", {"account_id": "paid-for", "payer": POOLS[0]})
    first = await world.new_key("paid-for")
    path = "/v1/accounts/paid-for/payer"
    changed = await world.manage("PUT", path, {"payer": SECOND_PAYER_CHECKSUMMED})
    read = await world.manage("GET", "/v1/accounts/paid-for")
    second = await world.new_key("paid-for")
    keys = (await world.manage("GET", "/v1/accounts/paid-for/keys")).json["keys"]

    assert (opened.json["payer"], first["key"]["payer"]) == (POOLS[0], POOLS[0])
    assert (changed.json, second["key"]["payer"]) == (read.json, SECOND_PAYER)
    assert {key["payer"] for key in keys} == {POOLS[0], SECOND_PAYER}
    assert (await world.manage("POST", "/v1/accounts", {"account_id": "nobodys"})).json["payer"] is None
    again = await world.manage("POST", "/v1/accounts", {"account_id": "paid-for", "payer": SECOND_PAYER})
    assert (again.status, again.json["code"]) == (409, "account_id_taken")
    missing = await world.manage("PUT", "/v1/accounts/nobody/payer", {"payer": SECOND_PAYER})
    assert (missing.status, missing.json["code"]) == (404, "account_not_found")


async def test_redemptions_are_asked_of_the_watcher_with_kind_and_cursor(world: World) -> None:
    first = await world.manage("GET", "/v1/redemptions?kind=orphan&limit=1")
    await world.manage("GET", f"/v1/redemptions?kind=orphan&limit=1&cursor={first.json['next']}")
    bad = await world.manage("GET", "/v1/redemptions?kind=lost")

    [row] = first.json["redemptions"]
    assert (row["kind"], row["paid_wei"], row["sender_nonce"]) == ("orphan", str(FUNDS), str(2**255))
    asked = world.stand_ins.redemptions_asked[-1]
    assert (asked.redemption_kind, asked.limit, asked.after) == ("orphan", 1, row["redemption_id"])
    assert (bad.status, bad.json["errors"][0]["field"]) == (422, "query.kind")


@pytest.mark.parametrize("payer", [UNFUNDED_PAYER, KEYLESS_PAYER])
async def test_a_payer_we_cannot_pay_with_is_refused(world: World, payer: str) -> None:
    await world.manage("POST", "/v1/accounts", {"account_id": "cautious"})

    answers = [
        await world.manage("PUT", "/v1/accounts/cautious/payer", {"payer": payer}),
        await world.manage("POST", "/v1/accounts", {"account_id": "never-opened", "payer": payer}),
    ]

    for answer in answers:
        assert (answer.status, answer.json["code"]) == (422, "unknown_payer")
        assert [error["field"] for error in answer.json["errors"]] == ["body.payer"]
    assert (await world.manage("GET", "/v1/accounts/cautious")).json["payer"] is None
    assert (await world.manage("GET", "/v1/accounts/never-opened")).status == 404


@pytest.mark.parametrize(
    "payer",
    [
        "",
        "0x",
        "0x" + "2b" * 19,
        "2b" * 20,
        "0x" + "zz" * 20,
        7,
        None,
        SECOND_PAYER_CHECKSUMMED.replace("aA", "AA"),
    ],
)
async def test_what_is_no_address_is_named_as_the_payer(world: World, payer: object) -> None:
    answer = await world.manage("PUT", "/v1/accounts/cautious/payer", {"payer": payer})

    assert (answer.status, answer.json["code"]) == (422, "invalid_request")
    assert [error["field"] for error in answer.json["errors"]] == ["body.payer"]


async def test_each_payer_has_a_pool(world: World) -> None:
    pools = (await world.manage("GET", "/v1/pools")).json["pools"]
    one = await world.manage("GET", f"/v1/pool?payer={SECOND_PAYER_CHECKSUMMED}")
    unsaid = await world.manage("GET", "/v1/pool")
    unknown = await world.manage("GET", f"/v1/pool?payer={UNFUNDED_PAYER}")
    mistyped = await world.manage("GET", "/v1/pool?payer=0x2b")

    assert [pool["payer"] for pool in pools] == [*POOLS]
    assert one.json == pools[1]
    assert one.json["deposit_wei"] == str(FUNDS)
    assert (unsaid.status, unsaid.json["code"]) == (409, "several_pools")
    assert (unknown.status, unknown.json["code"]) == (404, "pool_not_found")
    assert (mistyped.status, mistyped.json["errors"][0]["field"]) == (422, "query.payer")


async def test_whose_key_it_is(world: World, tenants: Tenants) -> None:
    assert (await world.manage("GET", "/v1/me")).json["role"] == "administrator"
    me = (await world.call("GET", "/v1/me", key=tenants.user)).json
    assert (me["role"], me["account_id"], me["user_id"]) == ("account", "acme", "user-1")


FOREIGN = (
    "/v1/accounts/acme",
    "/v1/accounts/acme/limits",
    "/v1/accounts/acme/users/ann/limits",
    "/v1/accounts/acme/keys/000000000000/limits",
    "/v1/accounts/acme/credit",
    "/v1/accounts/acme/streams",
    "/v1/accounts/acme/sessions",
    "/v1/sessions/session-of-acme",
    "/v1/sessions/session-of-acme?account=acme",
    "/v1/sessions/session-of-acme/timeline",
)


@pytest.mark.parametrize("path", FOREIGN)
async def test_a_foreign_account_answers_like_a_missing_one(
    world: World, tenants: Tenants, path: str
) -> None:
    foreign = await world.call("GET", path, key=tenants.other)
    missing = await world.call("GET", path.replace("acme", "nobody"), key=tenants.other)

    assert (foreign.status, foreign.json["code"]) == (missing.status, missing.json["code"])
    assert foreign.status == 404
    assert foreign.json["detail"].replace("acme", "nobody") == missing.json["detail"]
    assert (await world.call("GET", path)).status == 401
    assert (await world.call("GET", path, key=tenants.user)).status == 403


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/accounts", {"account_id": "mine"}),
        ("GET", "/v1/accounts", None),
        ("POST", "/v1/accounts/acme/suspend", {"reason": "unpaid"}),
        ("POST", "/v1/accounts/acme/resume", None),
        ("POST", "/v1/accounts/acme/keys", {}),
        ("GET", "/v1/accounts/acme/keys", None),
        ("DELETE", "/v1/accounts/acme/keys/keyNumberOne", None),
        ("PUT", "/v1/accounts/acme/limits", {"spend_limit_wei": "1"}),
        ("PUT", "/v1/accounts/acme/plan", {"plan": "pro"}),
        ("POST", "/v1/accounts/acme/credit", {"grant_id": "mine", "amount_micro_usd": 1}),
        ("PUT", "/v1/plans/pro", {}),
        ("POST", "/v1/stops", {"stops": [{"what": "everything"}]}),
        ("POST", "/v1/stops/lift", {"stops": [{"what": "everything"}]}),
        ("GET", "/v1/audit", None),
        ("GET", "/v1/usage", None),
        ("GET", "/v1/sessions", None),
        ("GET", "/v1/pool", None),
        ("GET", "/v1/pools", None),
        ("GET", "/v1/redemptions", None),
        ("PUT", "/v1/accounts/acme/payer", {"payer": SECOND_PAYER}),
    ],
)
async def test_an_account_does_not_administer(
    world: World, tenants: Tenants, method: str, path: str, body: object
) -> None:
    refused = await world.call(method, path, key=tenants.acme, body=body)
    nobody = await world.call(method, path, body=body)

    assert (refused.status, refused.json["code"]) == (403, "administrator_needed")
    assert (nobody.status, nobody.json["code"]) == (401, "key_refused")
    assert nobody.json["request_id"] == nobody.headers["X-Request-Id"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "body.account_id"),
        ({"account_id": "No"}, "body.account_id"),
        ({"account_id": "fine\n"}, "body.account_id"),
        ({"account_id": "fine", "spend_limit_wei": 7}, "body.spend_limit_wei"),
        ({"account_id": "fine", "spend_limit_wei": "-7"}, "body.spend_limit_wei"),
        ({"account_id": "fine", "spend_limit_wei": "1e9"}, "body.spend_limit_wei"),
        ({"account_id": "fine", "more": 1}, "body.more"),
        ([], "body"),
        (None, "body"),
    ],
)
async def test_a_mistake_is_named_by_its_field(world: World, body: object, field: str) -> None:
    answer = await world.manage("POST", "/v1/accounts", body)

    assert (answer.status, answer.json["code"]) == (422, "invalid_request")
    assert field in [error["field"] for error in answer.json["errors"]]


@pytest.mark.parametrize("data", [b"{", b"[" * 60_000, b"\xff", b"", b"{}x", b'{"account_id": "\x00"}'])
async def test_a_broken_body_is_never_our_fault(world: World, data: bytes) -> None:
    headers = {
        "Content-Type": "application/json",
        "Authorization": "Bearer an-administrators-key-of-these-tests",
    }

    answer = await world.call("POST", "/v1/accounts", data=data, headers=headers)

    assert answer.status in {400, 422}
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=501",
        "limit=x",
        "cursor=x",
        "cursor=%00",
        "cursor=WyJhIiwiYiJd",
        "cursor=" + "a" * 2000,
    ],
)
async def test_a_broken_query_is_never_our_fault(world: World, query: str) -> None:
    answer = await world.manage("GET", f"/v1/accounts?{query}")

    assert answer.status == 422
    assert answer.json["errors"][0]["field"] == f"query.{query.partition('=')[0]}"


async def test_services_refusals_keep_their_code(world: World) -> None:
    missing = await world.manage("POST", "/v1/accounts/nobody/suspend", {"reason": "unpaid"})
    key = await world.manage("DELETE", "/v1/accounts/nobody/keys/keyNumberOne")
    await world.manage("POST", "/v1/accounts", {"account_id": "held"})
    await world.manage("POST", "/v1/accounts/held/suspend", {"reason": "unpaid"})
    held = await world.manage("POST", "/v1/accounts/held/keys")

    assert (missing.status, missing.json["code"]) == (404, "account_not_found")
    assert (key.status, key.json["code"]) == (404, "key_not_found")
    assert (held.status, held.json["code"]) == (409, "account_suspended")


async def test_the_description_is_served(world: World) -> None:
    document = await world.call("GET", "/openapi.json")
    page = await world.call("GET", "/docs")

    assert document.json["openapi"].startswith("3.1")
    assert "/v1/pool" in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
