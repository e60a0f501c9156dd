"""`/v1/streams`: who may begin, keep and end which stream, and how a limit refuses."""

from typing import Any

import pytest

from contracts import stream_starts as contract
from contracts.message import Refusal
from tests.unit.edge.edge_app import Edge
from tests.unit.edge.managing import FULL_HOUR, HOUR_FIELDS, ROWS, asked, manage, managed, send

pytestmark = pytest.mark.anyio

STREAMS = "/v1/streams"


@pytest.fixture
def edge() -> Edge:
    return managed()


async def test_an_accounts_key_begins_a_stream_of_any_of_its_users(edge: Edge) -> None:
    key = edge.issue("acme")
    body = {"stream_id": "s:1", "user_id": "ann", "app": "demo/echo", "job_type": "live", "lease_seconds": 90}

    begun = await send(edge, "POST", STREAMS, key.text, body)

    [command] = asked(edge, contract.BeginStream)
    assert begun.status == 201
    assert command == {**body, "account_id": "acme", "key_id": key.key_id, "token_id": None}
    assert (begun.json["stream_id"], begun.json["lease_ends_at"]) == ("s:1", "2031-05-17T09:00:00Z")
    assert [row["remaining"] for row in begun.json["limits"]] == [str(row.remaining) for row in ROWS]
    assert begun.headers["ratelimit-policy"].endswith(HOUR_FIELDS[0])
    assert begun.headers["ratelimit"].endswith(HOUR_FIELDS[1])


async def test_a_stream_without_a_name_gets_one_of_its_own(edge: Edge) -> None:
    key = edge.issue("acme")

    names = {(await send(edge, "POST", STREAMS, key.text, {})).json["stream_id"] for _ in range(3)}

    assert len(names) == 3
    assert {len(name) for name in names} == {32}


async def test_a_users_key_begins_streams_of_its_own_user(edge: Edge) -> None:
    key = edge.issue("acme", "ann")

    begun = await send(edge, "POST", STREAMS, key.text, {})
    refused = await send(edge, "POST", STREAMS, key.text, {"user_id": "bob"})

    assert [command["user_id"] for command in asked(edge, contract.BeginStream)] == ["ann"]
    assert begun.status == 201
    assert (refused.status, refused.json["code"]) == (403, "key_scope")


async def test_a_session_token_begins_streams_of_its_user_under_its_limits(edge: Edge) -> None:
    issued = (await edge.exchange(edge.issue("acme").text, user_id="ann")).json

    begun = await send(edge, "POST", STREAMS, issued["access_token"], {})

    [command] = asked(edge, contract.BeginStream)
    assert begun.status == 201
    assert (command["user_id"], command["token_id"]) == ("ann", issued["token_id"])


async def test_an_administrator_says_whose_stream(edge: Edge) -> None:
    begun = await manage(edge, "POST", STREAMS, {"account_id": "acme", "user_id": "ann"})
    unsaid = await manage(edge, "POST", STREAMS, {})
    missing = await manage(edge, "POST", STREAMS, {"account_id": "nobody"})
    beaten = await manage(edge, "POST", f"{STREAMS}/s1/heartbeat?account=acme")

    assert (begun.status, beaten.status) == (201, 200)
    assert (unsaid.status, unsaid.json["errors"][0]["field"]) == (422, "body.account_id")
    assert (missing.status, missing.json["code"]) == (404, "account_not_found")
    assert (await manage(edge, "POST", f"{STREAMS}/s1/end")).json["errors"][0]["field"] == "query.account"


async def test_a_foreign_account_answers_like_a_missing_one(edge: Edge) -> None:
    key = edge.issue("acme").text

    answers = [
        await send(edge, method, path.format(name), key, body and {"account_id": name})
        for name in ("other", "nobody")
        for method, path, body in (
            ("POST", STREAMS, True),
            ("POST", STREAMS + "/s1/heartbeat?account={}", None),
            ("POST", STREAMS + "/s1/end?account={}", None),
        )
    ]

    assert [(answer.status, answer.json["code"]) for answer in answers] == [(404, "account_not_found")] * 6
    assert not edge.bus.asked


async def test_heartbeat_and_end_are_for_ones_own_stream(edge: Edge) -> None:
    account, user = edge.issue("acme").text, edge.issue("acme", "ann").text

    kept = await send(edge, "POST", f"{STREAMS}/s1/heartbeat", user)
    ended = await send(edge, "POST", f"{STREAMS}/s1/end", account)

    [beat], [end] = asked(edge, contract.BeatStream), asked(edge, contract.EndStream)
    assert beat == {"account_id": "acme", "stream_id": "s1", "user_id": "ann"}
    assert end == {"account_id": "acme", "stream_id": "s1", "user_id": None}
    assert (kept.status, kept.json["lease_ends_at"]) == (200, "2031-05-17T09:00:00Z")
    assert (ended.status, ended.json["ended_because"]) == (200, "ended")


@pytest.mark.parametrize(
    ("status", "code", "retry_after"),
    [
        (402, "spend_limit_reached", None),
        (402, "credit_exhausted", None),
        (403, "account_suspended", None),
        (429, "too_many_streams", 15),
        (503, "rate_unknown", 5),
    ],
)
async def test_a_limit_refuses_with_its_code_and_numbers(
    edge: Edge, status: Any, code: str, retry_after: int | None
) -> None:
    refusal = contract.StreamRefused(
        status=status, code=code, message="no room", retry_after_seconds=retry_after, rows=ROWS
    )
    edge.bus.answers[contract.BeginStream.subject] = lambda _: refusal

    refused = await send(edge, "POST", STREAMS, edge.issue().text, {})

    assert (refused.status, refused.json["code"], refused.json["detail"]) == (status, code, "no room")
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers.get("retry-after") == (str(retry_after) if retry_after else None)
    assert refused.json["limits"][1] == {
        "name": "spend_per_hour_micro_usd",
        "limit": "900",
        "used": "850",
        "held": "50",
        "remaining": "0",
        "resets_at": FULL_HOUR.isoformat().replace("+00:00", "Z"),
    }
    assert refused.headers["ratelimit"].endswith(HOUR_FIELDS[1])


async def test_a_stream_that_nobody_began_is_not_found(edge: Edge) -> None:
    edge.bus.answers[contract.BeatStream.subject] = lambda _: contract.StreamRefused(
        status=409, code="stream_ended", message="it has ended"
    )
    edge.bus.answers[contract.EndStream.subject] = lambda _: Refusal(code="stream_not_found", message="no")
    key = edge.issue().text

    kept = await send(edge, "POST", f"{STREAMS}/s1/heartbeat", key)
    ended = await send(edge, "POST", f"{STREAMS}/s1/end", key)

    assert (kept.status, kept.json["code"], kept.json["limits"]) == (409, "stream_ended", [])
    assert (ended.status, ended.json["code"]) == (404, "stream_not_found")
    assert "ratelimit" not in kept.headers


async def test_running_streams_are_listed_page_by_page(edge: Edge) -> None:
    key = edge.issue("acme").text

    page = await send(edge, "GET", "/v1/streams?limit=2", key)
    await send(edge, "GET", f"/v1/streams?limit=2&cursor={page.json['next']}", key)

    assert [stream["stream_id"] for stream in page.json["streams"]] == ["stream-0", "stream-1"]
    assert [command["after"] for command in asked(edge, contract.ListStreams)] == ["", "stream-1"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"lease_seconds": 14}, "lease_seconds"),
        ({"lease_seconds": 3601}, "lease_seconds"),
        ({"lease_seconds": "60"}, "lease_seconds"),
        ({"job_type": "film"}, "job_type"),
        ({"stream_id": "a b"}, "stream_id"),
        ({"user_id": "lpch_0123"}, "user_id"),
        ({"users": "ann"}, "users"),
    ],
)
async def test_a_mistake_is_named_by_its_field(edge: Edge, body: dict[str, Any], field: str) -> None:
    refused = await send(edge, "POST", STREAMS, edge.issue().text, body)

    assert refused.status == 422
    assert [error["field"] for error in refused.json["errors"]] == [f"body.{field}"]


async def test_what_no_store_can_keep_is_refused_by_its_field(edge: Edge) -> None:
    """PostgreSQL takes no zero byte; before, whoever sent one was told to come again."""
    key = edge.issue("acme")

    answer = await send(edge, "POST", STREAMS, key.text, {"stream_id": "a", "app": "echo\0"})

    assert answer.status == 422
    assert answer.json["errors"][0]["field"] == "body.app"
