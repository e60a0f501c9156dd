"""The Livepeer wire of the edge as a process: keys, limits, payments and refusals."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest

from tests import infra
from tests.integration.edge_world import (
    ADMIN_KEY,
    FIRST_PAYER,
    PEPPER,
    SECOND_PAYER,
    World,
    running_edge,
)
from tests.integration.service_process import bus_user
from tilt.slot import Slot

pytestmark = pytest.mark.anyio

NATS_USERS = (bus_user("accounts"), bus_user("edge"))
PAY = "/generate-live-payment"


@pytest.fixture(scope="module")
async def world(postgres: infra.Postgres, nats: infra.Nats, slot: Slot) -> AsyncIterator[World]:
    directory = slot.directory / "edge"
    directory.mkdir(exist_ok=True)
    with postgres.database("accounts") as database:
        async with running_edge(nats, database.dsn("accounts"), slot, directory) as world:
            yield world


@pytest.fixture(scope="module")
async def key(world: World) -> str:
    return str((await world.new_key("acme"))["api_key"])


async def test_an_issued_key_works_at_once_and_a_revoked_one_stops_at_once(world: World) -> None:
    issued = await world.new_key("first")
    await world.until_status(200, issued["api_key"])

    key_id = issued["key"]["key_id"]
    revoked = await world.manage("DELETE", f"/v1/accounts/first/keys/{key_id}")

    assert revoked.json["status"] == "revoked"
    await world.until_status(401, issued["api_key"])


async def test_a_suspended_account_is_refused_until_it_is_resumed(world: World) -> None:
    key = (await world.new_key("second"))["api_key"]
    await world.manage("POST", "/v1/accounts/second/suspend", {"reason": "unpaid"})
    await world.until_status(403, key, "/discover-orchestrators")

    refused = await world.call("POST", PAY, key=key, body={})
    assert (refused.status, refused.json["error"]["message"].split(" (")[0]) == (
        403,
        "the account is suspended",
    )
    await world.manage("POST", "/v1/accounts/second/resume")
    await world.until_status(200, key, "/discover-orchestrators")


async def test_a_payment_goes_to_the_signer_untouched_and_comes_back_as_it_is(world: World) -> None:
    key = (await world.new_key("payer", "user-of-key"))["api_key"]
    body = '{ "name" : "\\u00fc ü ☂",  "padding":"' + "x" * 60_000 + '" }'
    headers = {
        "Clearinghouse-Stream": "stream:1",
        "Clearinghouse-User": "ignored",
        "Idempotency-Key": "job-1",
        "Signer-Auth-Id": "somebody:else",
    }

    answer = await world.call("POST", PAY, key=key, data=body.encode(), headers=headers)

    [sent] = [one for one in world.stand_ins.payments if one.account_id == "payer"]
    assert (answer.status, answer.json) == (200, {"payment": "ü ü ☂"})
    assert answer.text.endswith("}\n")
    assert answer.headers["Content-Type"] == "application/json"
    assert sent.body == body
    assert (sent.user_id, sent.stream_id, sent.job_id) == ("user-of-key", "stream:1", "job-1")
    assert "somebody" not in sent.model_dump_json()
    assert sent.request_id == answer.headers["X-Request-Id"]


async def test_many_payments_share_messages_and_each_gets_its_own_answer(world: World, key: str) -> None:
    before = world.stand_ins.messages
    names = [f"payment-{number}" for number in range(200)]

    answers = await asyncio.gather(*(world.call("POST", PAY, key=key, body={"name": name}) for name in names))

    assert [answer.json["payment"] for answer in answers] == names
    assert world.stand_ins.messages - before < len(names)


@pytest.mark.parametrize(
    ("refuse", "text", "header"),
    [
        (
            {"status": 480, "orchestrator_url": "https://o.example:8935"},
            "told to",
            "Livepeer-Orchestrator-Url",
        ),
        ({"status": 480, "orchestrator_url": "https://o\r\nX-Evil: 1"}, "told to", None),
        ({"status": 429, "retry_after_seconds": 3}, "told to", "Retry-After"),
        ({"status": 402}, "told to", None),
        ({"status": 482}, "told to", None),
        ({"status": 500}, "Internal Server Error", None),
        ({"status": 503}, "Service Unavailable Error", None),
    ],
)
async def test_the_signers_refusals_keep_their_status(
    world: World, key: str, refuse: dict[str, object], text: str, header: str | None
) -> None:
    answer = await world.call("POST", PAY, key=key, body={"refuse": refuse})

    request_id = answer.headers["X-Request-Id"]
    assert answer.status == refuse["status"]
    assert answer.text == f'{{"error":{{"message":"{text} (request {request_id})"}}}}\n'
    assert answer.headers.get(header or "X-Evil") == (str([*refuse.values()][1]) if header else None)
    assert ("Livepeer-Orchestrator-Url" in answer.headers) == (header == "Livepeer-Orchestrator-Url")


async def chunks(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // 1024):
        yield b" " * 1024


@pytest.mark.parametrize(
    ("data", "headers", "status"),
    [
        (b" " * (64 * 1024 + 1), {}, 413),
        (chunks(128 * 1024), {}, 413),
        (b"{}", {"Content-Encoding": "gzip"}, 415),
        (b"{}", {"X-Long": "x" * 7_000, "X-Longer": "x" * 8_000, "X-Longest": "x" * 2_000}, 431),
        (b'{"a": "\xff"}', {}, 400),
        (b'{"a": "\x00"}', {}, 400),
        (b"{}", {"Clearinghouse-User": "a user"}, 400),
        (b"{}", {"Clearinghouse-Stream": "s" * 129}, 400),
        (b"{}", {"Idempotency-Key": "a job"}, 400),
    ],
)
async def test_what_is_out_of_bounds_goes_no_further(
    world: World, key: str, data: object, headers: dict[str, str], status: int
) -> None:
    before = len(world.stand_ins.payments)

    answer = await world.call("POST", PAY, key=key, data=data, headers=headers)

    assert answer.status == status
    assert f"(request {answer.headers['X-Request-Id']})" in answer.json["error"]["message"]
    assert len(world.stand_ins.payments) == before
    if status == 400 and headers:
        assert next(iter(headers)) in answer.json["error"]["message"]


async def test_limits_come_before_the_key_and_the_key_before_the_rest(world: World) -> None:
    too_large = await world.call("POST", PAY, data=b" " * 70_000)
    no_key = await world.call("POST", PAY, data=b"\xff", headers={"Clearinghouse-User": "a user"})

    assert (too_large.status, no_key.status) == (413, 401)
    assert no_key.headers["WWW-Authenticate"] == "Bearer"


async def test_a_signer_that_hangs_costs_a_client_its_deadline_and_no_more(world: World, key: str) -> None:
    hung = [world.call("POST", PAY, key=key, body={"hang": True}) for _ in range(10)]
    answers = await asyncio.gather(*hung)

    assert {answer.status for answer in answers} == {503}
    assert {answer.headers["Retry-After"] for answer in answers} == {"1"}
    assert (await world.call("POST", PAY, key=key, body={"name": "next"})).status == 200


async def test_without_a_signer_the_answer_is_503(world: World, key: str) -> None:
    await world.stand_ins.leave("signer")
    answer = await world.call("POST", PAY, key=key, body={})
    await world.stand_ins.serve("signer")

    assert answer.status == 503
    assert answer.json["error"]["message"].startswith("Service Unavailable Error (request ")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", PAY), ("PUT", "/sign-orchestrator-info"), ("POST", "/discover-orchestrators")],
)
async def test_a_wrong_method_on_the_wire(world: World, key: str, method: str, path: str) -> None:
    answer = await world.call(method, path, key=key)

    assert answer.status == 405
    assert "error" in answer.json
    assert answer.headers["Allow"]


async def test_an_unknown_path_is_a_problem(world: World) -> None:
    answer = await world.call("GET", "/nothing-here")

    assert answer.headers["Content-Type"] == "application/problem+json"
    assert (answer.status, answer.json["code"]) == (404, "not_found")


async def payer_of(world: World, key: str) -> tuple[str, str | None]:
    """Whose address a key gets to give orchestrators, and who is to sign what it asks for."""
    material = await world.call("POST", "/sign-orchestrator-info", key=key, body={})
    assert (await world.call("POST", PAY, key=key, body={"name": "one"})).status == 200
    return material.json["address"].lower(), world.stand_ins.payments[-1].payer


async def test_a_key_keeps_its_payer_for_life_and_the_next_one_has_the_new(world: World) -> None:
    before = (await world.new_key("rotating"))["api_key"]
    set_payer = {"payer": SECOND_PAYER}
    assert (await world.manage("PUT", "/v1/accounts/rotating/payer", set_payer)).status == 200
    after = (await world.new_key("rotating"))["api_key"]

    assert await payer_of(world, before) == (FIRST_PAYER, None)
    assert await payer_of(world, after) == (SECOND_PAYER, SECOND_PAYER)
    await world.manage("PUT", "/v1/accounts/rotating/payer", {"payer": FIRST_PAYER})
    assert await payer_of(world, after) == (SECOND_PAYER, SECOND_PAYER)
    assert (await world.call("GET", "/v1/me", key=after)).json["payer"] == SECOND_PAYER


async def test_the_signer_is_asked_once_for_a_payers_signature(world: World) -> None:
    keys = []
    for account_id in ("sharing-1", "sharing-2"):
        await world.manage("POST", "/v1/accounts", {"account_id": account_id, "payer": SECOND_PAYER})
        keys.append((await world.new_key(account_id))["api_key"])

    for key in keys * 3:
        assert (await world.call("POST", "/sign-orchestrator-info", key=key, body={})).status == 200

    asked = [one for one in world.stand_ins.signatures_asked if one.payer == SECOND_PAYER]
    assert len(asked) == 1


async def test_the_official_sdk_gets_the_payers_signature(world: World) -> None:
    from livepeer_gateway.remote_signer import get_orch_info_sig  # noqa: PLC0415
    from livepeer_gateway.token import parse_token  # noqa: PLC0415

    issued = await world.new_key("gateway")
    token = parse_token(issued["sdk_token"])
    headers = frozenset(token["signer_headers"].items())

    material = await asyncio.to_thread(get_orch_info_sig, token["signer"], headers)

    assert (material.address.lower(), material.sig) == (FIRST_PAYER, "0x" + "cd" * 65)
    found = await world.call("GET", "/discover-orchestrators?app=x", headers=token["discovery_headers"])
    assert found.json == [{"address": "https://one.example", "score": 1, "capabilities": ["live/a"]}]


async def test_discovery_filters_and_asks_for_a_key(world: World, key: str) -> None:
    none = await world.call("GET", "/discover-orchestrators?caps=live/b&caps=", key=key)
    one = await world.call("GET", "/discover-orchestrators?caps=live/a", key=key)

    assert (none.status, none.text) == (200, "[]\n")
    assert len(one.json) == 1
    assert (await world.call("GET", "/discover-orchestrators")).status == 401


async def test_an_administrators_key_pays_nothing(world: World) -> None:
    assert (await world.call("POST", PAY, key=ADMIN_KEY, body={})).status == 401


async def test_a_head_without_end_is_cut_off(world: World) -> None:
    host, port = world.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST / HTTP/1.1\r\nX-Endless: ")
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionError):
            while not reader.at_eof():
                writer.write(b"x" * 1024)
                await writer.drain()

    writer.close()


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431, "headers_too_large"),
        (b"GET /" + b"x" * 200_000, 431, "headers_too_large"),
        (b"this is no HTTP\r\n\r\n", 400, "malformed_request"),
    ],
)
async def test_a_head_that_cannot_be_read_is_refused_in_words(
    world: World, sent: bytes, status: int, code: str
) -> None:
    host, port = world.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)
    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")
        answer = json.loads(await reader.readline())

    writer.close()
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"content-type: application/problem+json\r\n" in head
    assert (answer["status"], answer["code"]) == (status, code)


async def test_operators_have_a_port_of_their_own(world: World) -> None:
    for path, status in (("/livez", 200), ("/readyz", 200), ("/metrics", 200), ("/v1/me", 404)):
        async with world.session.get(world.operators_url + path) as response:
            assert response.status == status
    assert (await world.call("GET", "/metrics")).status == 404


async def test_every_request_has_its_line_and_no_line_has_a_key(world: World) -> None:
    issued = await world.new_key("logged")
    answer = await world.call("POST", PAY, key=issued["api_key"], body={"name": "x"})
    await world.call("POST", PAY, key=issued["api_key"][:-1] + "!", body={})

    text = await asyncio.to_thread(world.log.read_text)
    lines = [json.loads(line) for line in text.splitlines()]
    [line] = [one for one in lines if one.get("request_id") == answer.headers["X-Request-Id"]]
    assert {key: line[key] for key in ("account_id", "status", "path", "level")} == {
        "account_id": "logged",
        "status": 200,
        "path": PAY,
        "level": "info",
    }
    for secret in (issued["api_key"].split("_")[2], ADMIN_KEY, PEPPER):
        assert secret not in text
