"""What is wrong with a request is named, nothing of it is stored, and nobody sees another's data."""

import asyncio
import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any

import pytest

from tests.acceptance.checks import settled
from tests.acceptance.signer_log import count_requested
from tests.acceptance.system import Account, Answer, System
from tests.acceptance.wire import SIGNER, Challenge, Payer, request

pytestmark = pytest.mark.anyio

BODY_BYTES_MAX = 64 * 1024
EXPIRATION = "ticket_params.expiration_params"

type Change = Callable[[Any], None]  # of an OrchestratorInfo


def _set(path: str, value: object) -> Change:
    *parents, name = path.split(".")

    def change(info: Any) -> None:
        for parent in parents:
            info = getattr(info, parent)
        setattr(info, name, value)

    return change


def _clear(name: str) -> Change:
    return lambda info: info.ClearField(name)


# What an orchestrator could send us by way of a client, and how its refusal names it.
BAD_QUOTES: list[tuple[Change, int, str]] = [
    (_clear("price_info"), 400, "priceInfo"),
    (_set("price_info.pricePerUnit", -1), 400, "priceInfo"),
    (_set("price_info.pixelsPerUnit", -1), 400, "priceInfo"),
    (_clear("ticket_params"), 400, "ticketParams"),
    (_set("address", bytes(19)), 400, "address"),
    (_set("ticket_params.recipient", bytes(21)), 400, "recipient"),
    (_set("ticket_params.face_value", b""), 400, "faceValue"),
    (_set("ticket_params.face_value", b"\0\1"), 400, "faceValue"),
    (_set("ticket_params.face_value", b"\xff" * 33), 400, "faceValue"),
    (_set("ticket_params.face_value", b"\xff" * 32), 400, "EV"),
    (_set("ticket_params.win_prob", b""), 400, "winProb"),
    (_set("ticket_params.win_prob", b"\xff" * 32), 400, "faceValue too low"),
    (_set("ticket_params.recipient_rand_hash", bytes(31)), 400, "recipientRandHash"),
    (_set("ticket_params.seed", bytes(33)), 400, "seed"),
    (_set("ticket_params.expiration_block", b""), 400, "expiration block"),
    (_set("ticket_params.expiration_block", b"\xff" * 8), 400, "expiration block"),
    (_set(f"{EXPIRATION}.creation_round", -1), 400, "expirationParams"),
    (_set(f"{EXPIRATION}.creation_round_block_hash", bytes(5)), 400, "creationRoundBlockHash"),
    (_set(f"{EXPIRATION}.creation_round_block_hash", bytes(32)), 480, "refresh"),
    (_clear("auth_token"), 400, "auth token"),
]

BAD_FIELDS: list[tuple[dict[str, Any], int, str]] = [
    ({"orchestrator": None}, 400, "orchestrator"),
    ({"orchestrator": "*"}, 400, "orchestrator"),
    ({"orchestrator": b64encode(b"\xff").decode()}, 400, "orchestrator"),
    ({"orchestrator": 7}, 400, "orchestrator"),
    ({"ManifestID": ["x"]}, 400, "ManifestID"),
    ({"ManifestID": "x" * 257}, 400, "ManifestID"),
    ({"app": 1}, 400, "app"),
    ({"type": "forever"}, 400, "job type"),
    ({"inPixels": 1.5}, 400, "inPixels"),
    ({"inPixels": 2**63}, 400, "inPixels"),
    ({"capabilities": "*"}, 400, "capabilities"),
    ({"maxPrice": "free"}, 400, "maxPrice"),
    ({"maxPrice": {"price": -1, "currency": "wei", "unit": "seconds"}}, 400, "maxPrice.price"),
    ({"maxPrice": {"price": "1e999999999", "currency": "wei", "unit": "seconds"}}, 400, "maxPrice.price"),
    ({"maxPrice": {"price": 1, "currency": "usd", "unit": "seconds"}}, 400, "maxPrice.currency"),
    ({"maxPrice": {"price": 1, "currency": "wei", "unit": "hour"}}, 400, "maxPrice.unit"),
    ({"maxPrice": {"price": 1, "currency": "wei", "unit": "seconds"}}, 481, "maxPrice"),
    ({"state": "x"}, 400, "state"),
    ({"state": {"State": "*", "Sig": ""}}, 400, "state.State"),
    ({"state": {"State": "e30=", "Sig": "*"}}, 400, "state.Sig"),
    ({"state": {"State": "e30=", "Sig": "AAAA"}}, 400, "sig"),
]

BAD_BODIES: list[tuple[bytes, int, str]] = [
    (b"", 400, "JSON"),
    (b"{", 400, "JSON"),
    (b"[]", 400, "JSON object"),
    (b"\xff\xfe", 400, "UTF-8"),
    (b"[" * 40_000, 400, "JSON"),
    (b'{"orchestrator": NaN}', 400, "JSON"),
    (b" " * (BODY_BYTES_MAX + 1), 413, f"{BODY_BYTES_MAX} bytes"),
    (b" " * 1_000_000, 413, f"{BODY_BYTES_MAX} bytes"),
]


async def test_each_bad_request_names_its_field_and_stores_nothing(system: System) -> None:
    payer = Payer(system, await system.open_account())
    challenge = await payer.challenge()
    stored = await _count(system)

    bodies = [*_with_bad_quotes(challenge), *_with_bad_fields(challenge), *BAD_BODIES]
    answers = [(await payer.ask(body), status, name) for body, status, name in bodies]

    assert [wrong for answer, status, name in answers if (wrong := _wrong(answer, status, name))] == []
    assert await _count(system) == stored
    assert (await payer.ask(request(challenge))).status == 200  # nothing else was wrong with it
    await settled(system, payer.account)


def _with_bad_quotes(challenge: Challenge) -> list[tuple[bytes, int, str]]:
    bad = []
    for change, status, name in BAD_QUOTES:
        info = challenge.info
        change(info)
        bad.append((request(challenge.quoting(info)), status, name))
    return bad


def _with_bad_fields(challenge: Challenge) -> list[tuple[bytes, int, str]]:
    return [(request(challenge, **fields), status, name) for fields, status, name in BAD_FIELDS]


async def _count(system: System) -> int:
    return await asyncio.to_thread(count_requested, system.world.dsn())


def _wrong(answer: Answer, status: int, name: str) -> str:
    """What is not as it should be with a refusal on the wire; nothing, if all is."""
    message = _message(answer)
    if answer.status != status or name not in message or answer.headers["X-Request-Id"] not in message:
        return f"{answer.status} {message!r} instead of {status} {name}"
    return ""


def _message(answer: Answer) -> str:
    content = answer.json
    assert list(content) == ["error"]
    assert list(content["error"]) == ["message"]
    return str(content["error"]["message"])


async def test_a_session_that_is_refused_once_goes_on_afterwards(system: System) -> None:
    payer = Payer(system, await system.open_account())
    challenge = await payer.challenge()
    paid = await payer.pay(challenge)
    state = json.loads(b64decode(paid.state["State"]))
    forged = {**paid.state, "State": b64encode(json.dumps({**state, "SequenceNumber": 7}).encode()).decode()}

    refused = [
        await payer.ask(request(challenge, forged)),
        await payer.ask(request(challenge, paid.state, app="another")),
        await payer.ask(request(challenge, paid.state, type="lv2v")),
        await payer.ask(request(challenge, paid.state, ManifestID="")),
    ]
    again = await payer.pay(challenge, paid)

    names = ["invalid sig", "app mismatch", "job type mismatch", "missing manifestID"]
    assert [_wrong(answer, 400, name) for answer, name in zip(refused, names, strict=True)] == [""] * 4
    assert again.nonces[0] == paid.nonces[-1] + 1


@pytest.mark.parametrize("path", ["", "/limits", "/usage", "/sessions"])
async def test_a_foreign_account_answers_like_one_that_is_not_there(system: System, path: str) -> None:
    mine, foreign = await system.open_account(), await system.open_account()

    seen = await system.call("GET", f"/v1/accounts/{foreign.account_id}{path}", key=mine.api_key)
    missing = await system.call("GET", f"/v1/accounts/nobody-at-all{path}", key=mine.api_key)

    assert (seen.status, missing.status) == (404, 404)
    assert _comparable(seen, foreign.account_id) == _comparable(missing, "nobody-at-all")


def _comparable(answer: Answer, account_id: str) -> dict[str, Any]:
    content = json.loads(answer.body.replace(account_id.encode(), b"ID"))
    return {**content, "request_id": ""}


async def test_a_foreign_session_answers_like_one_that_is_not_there(system: System) -> None:
    payer, stranger = Payer(system, await system.open_account()), await system.open_account()
    session_id = (await payer.pay(await payer.challenge())).session_id

    own = await system.call("GET", f"/v1/sessions/{session_id}", key=payer.account.api_key)
    answers = await _ask_for_session(system, stranger, session_id, payer.account.account_id)

    assert own.status == 200
    assert [answer.status for answer in answers] == [404] * 4


async def _ask_for_session(system: System, who: Account, session_id: str, owner: str) -> list[Answer]:
    paths = [f"/v1/sessions/{session_id}{tail}" for tail in ("", "/timeline")]
    paths += [f"{path}?account={owner}" for path in paths]
    return [await system.call("GET", path, key=who.api_key) for path in paths]


async def test_customers_do_not_manage_accounts(system: System) -> None:
    account = await system.open_account()
    own = f"/v1/accounts/{account.account_id}"
    attempts = [
        ("POST", "/v1/accounts", {"account_id": "another-one"}),
        ("PUT", f"{own}/limits", {"spend_limit_wei": "1"}),
        ("POST", f"{own}/keys", {}),
        ("POST", f"{own}/suspend", {"reason": "unpaid"}),
        ("GET", "/v1/usage", None),
        ("GET", "/v1/pool", None),
    ]

    statuses = {(await system.call(*one, key=account.api_key, body=body)).status for *one, body in attempts}

    assert statuses == {403}


async def test_wrong_methods_unknown_paths_and_missing_keys_are_told_in_the_words_of_the_path(
    system: System,
) -> None:
    account = await system.open_account()

    method = await system.send("GET", SIGNER, headers=account.headers)
    method_of_v1 = await system.call("DELETE", "/v1/accounts")
    path = await system.call("GET", "/v1/nothing")
    key = await system.send("POST", SIGNER, data=b"{}")
    key_of_v1 = await system.send("GET", "/v1/me")

    assert _wrong(method, 405, "Method Not Allowed") == ""
    assert _wrong(key, 401, "API key") == ""
    assert [answer.status for answer in (method_of_v1, path, key_of_v1)] == [405, 404, 401]
    assert {answer.headers["Content-Type"] for answer in (method_of_v1, path, key_of_v1)} == {
        "application/problem+json"
    }


async def test_v1_names_each_wrong_field(system: System) -> None:
    body = {"account_id": "NOT AN ID", "spend_limit_wei": "-1", "colour": "red"}

    answer = await system.call("POST", "/v1/accounts", body=body)

    fields = {error["field"] for error in answer.json["errors"]}
    assert answer.status == 422
    assert fields == {"body.account_id", "body.spend_limit_wei", "body.colour"}
    assert answer.json["request_id"] == answer.headers["X-Request-Id"]


async def test_headers_past_16_kib_and_compressed_bodies_are_refused(system: System) -> None:
    account = await system.open_account()

    long = await system.send("POST", SIGNER, data=b"{}", headers={**account.headers, "X-Long": "x" * 17_000})
    packed = await system.send(
        "POST", SIGNER, data=b"{}", headers={**account.headers, "Content-Encoding": "gzip"}
    )

    assert long.status == 431
    assert _wrong(packed, 415, "compressed") == ""
