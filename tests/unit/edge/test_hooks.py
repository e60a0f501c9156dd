"""The hook that go-livepeer's gateway asks whether a stream may begin: `/auth/stream`."""

import json
from base64 import b64encode
from typing import Any

import pytest

from contracts import stream_starts as contract
from contracts.limits import Scoped
from tests.unit.edge.edge_app import Answer, Edge
from tests.unit.edge.managing import ADMIN_KEY, ROWS, asked, managed

pytestmark = pytest.mark.anyio

STREAM = {"url": "rtmp://gateway.example/live/a-secret-stream-key?user=bob"}


@pytest.fixture
def edge() -> Edge:
    return managed()


async def start(edge: Edge, query: str = "", body: Any = STREAM, **headers: str) -> Answer:
    sent = {"content-type": "application/json", **headers}
    return await edge.call("POST", f"/auth/stream{query}", body=json.dumps(body), headers=sent)


async def test_a_gateway_lets_a_stream_in_that_has_a_place(edge: Edge) -> None:
    key = edge.issue("acme")

    answer = await start(edge, f"?key={key.text}&lease=900&job_type=lv2v")

    [command] = asked(edge, contract.BeginStream)
    assert (answer.status, answer.json) == (200, {"manifestID": command["stream_id"]})
    assert (command["account_id"], command["user_id"], command["key_id"]) == ("acme", "bob", key.key_id)
    assert (command["lease_seconds"], command["job_type"]) == (900, "lv2v")
    # Go-livepeer cuts a manifest id at its first slash and its last dot.
    assert command["stream_id"].isalnum()
    assert "a-secret-stream-key" not in json.dumps(command)


async def test_the_gateway_knows_better_than_the_stream_whose_it_is_and_the_key_best(edge: Edge) -> None:
    account, user = edge.issue("acme").text, edge.issue("acme", "ann").text

    await start(edge, f"?key={account}&user=carol")
    await start(edge, f"?key={user}&user=carol")
    await start(edge, f"?key={account}", {"url": "/live/movie/0.ts"})

    told = asked(edge, contract.BeginStream)
    assert [command["user_id"] for command in told] == ["carol", "ann", None]
    assert told[0]["lease_seconds"] == 3600


@pytest.mark.parametrize(
    "form", ["Bearer {}", "Basic {}", "basic {}"], ids=["bearer", "as password", "as user name"]
)
async def test_a_key_may_come_in_the_header(edge: Edge, form: str) -> None:
    key = edge.issue("acme").text
    shown = {"Bearer {}": key, "Basic {}": _basic("x", key), "basic {}": _basic(key, "")}[form]

    answer = await start(edge, authorization=form.format(shown))

    assert answer.status == 200


def _basic(name: str, password: str) -> str:
    return b64encode(f"{name}:{password}".encode()).decode()


@pytest.mark.parametrize(
    "query", ["", "?key=", "?key=%ff%00", f"?key={ADMIN_KEY}", "?key=lpch_0123456789AB_" + "k" * 38]
)
async def test_without_a_good_key_no_stream_is_let_in(edge: Edge, query: str) -> None:
    answer = await start(edge, query, authorization="Basic !!")

    assert (answer.status, answer.json["code"]) == (401, "key_refused")
    assert not edge.bus.asked


@pytest.mark.parametrize(("status", "code"), [(403, "account_suspended"), (429, "too_many_streams")])
async def test_a_gateway_hears_why_a_stream_is_not_let_in(edge: Edge, status: Any, code: str) -> None:
    edge.bus.answers[contract.BeginStream.subject] = lambda _: contract.StreamRefused(
        status=status, code=code, message="no place", rows=ROWS
    )

    answer = await start(edge, f"?key={edge.issue().text}")

    assert (answer.status, answer.json["code"], len(answer.json["limits"])) == (status, code, 2)


async def test_whoever_plays_a_recording_begins_no_stream(edge: Edge) -> None:
    answer = await start(edge, f"?key={edge.issue().text}", {"url": "/recordings/movie/index.m3u8"})

    assert (answer.status, answer.text) == (200, "")
    assert not edge.bus.asked
    assert (await start(edge, "", {"url": "/recordings/movie/index.m3u8"})).status == 401


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("&lease=14", STREAM),
        ("&lease=3601", STREAM),
        ("&user=a%20b", STREAM),
        ("", {"url": "rtmp://["}),
        ("", {"url": 7}),
        ("", {}),
        ("", {"url": "x" * 5000}),
    ],
)
async def test_a_bent_request_lets_no_stream_in(edge: Edge, query: str, body: Any) -> None:
    answer = await start(edge, f"?key={edge.issue().text}{query}", body)

    assert answer.status == 422
    assert not edge.bus.asked


async def test_a_user_that_is_no_id_is_told(edge: Edge) -> None:
    answer = await start(edge, f"?key={edge.issue().text}", {"url": "rtmp://h/live/k?user=a+b"})

    assert (answer.status, answer.json["code"]) == (403, "bad_user")


async def test_the_key_in_a_hooks_url_is_not_logged(edge: Edge, capsys: pytest.CaptureFixture[str]) -> None:
    key = edge.issue("acme").text

    await start(edge, f"?key={key}")
    await start(edge, f"?key={key}", {})

    logged = capsys.readouterr().out
    assert "/auth/stream" in logged
    assert key not in logged
    assert "a-secret-stream-key" not in logged


async def test_networks_of_a_user_hold_for_the_gateway_that_asks(edge: Edge) -> None:
    edge.rule(Scoped(account_id="acme", user_id="bob"), rules={"networks": ["203.0.113.0/24"]})

    answer = await start(edge, f"?key={edge.issue().text}")

    assert (answer.status, answer.json["code"]) == (403, "network_not_allowed")
