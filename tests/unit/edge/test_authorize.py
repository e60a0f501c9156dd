"""The hook that go-livepeer's signer asks whose payment it may make: `/authorize`."""

import json
from typing import Any

import pytest

from contracts import stream_starts as contract
from tests.unit.edge.edge_app import NOW, Answer, Edge
from tests.unit.edge.managing import ADMIN_KEY, HOOK_SECRET, asked, managed

pytestmark = pytest.mark.anyio
# As Go's encoding/json writes generateLivePaymentWebhookBody: no tags on the state, in the struct's order.
PAYMENT = (
    '{"headers":{"Accept-Encoding":["gzip"],"Authorization":["Bearer %s"],"Clearinghouse-User":["ann:1"],'
    '"Content-Length":["4711"],"User-Agent":["Go-http-client/1.1"]},"state":{"StateID":"8c1d03aa",'
    '"PMSessionID":"0x%064x","LastUpdate":"2031-05-17T08:00:00.123456789Z",'
    '"OrchestratorAddress":"0x00000000000000000000000000000000000000ab",'
    '"App":"live-video-to-video/a-model \\u0026 more","AuthExpiry":0,"SenderNonce":17,'
    '"Balance":"-1234567890123456789012345/7","InitialPricePerUnit":1200,"InitialPixelsPerUnit":7,'
    '"Type":"live","SequenceNumber":18446744073709551615,"AuthID":"acme:ann:1"}}'
)


@pytest.fixture
def edge() -> Edge:
    return managed()


async def authorize(edge: Edge, body: str, secret: str | None = HOOK_SECRET, **headers: str) -> Answer:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return await edge.call(
        "POST",
        "/authorize",
        credential=secret,
        body=body,
        headers={"content-type": "application/json", **sent},
    )


def payment(key: str, **changes: Any) -> str:
    """The webhook's body with a customer's key, and changes of the state; None: without the field."""
    told = json.loads(PAYMENT % (key, 7))
    state = {**told["state"], **changes}
    told["state"] = {name: value for name, value in state.items() if value is not None}
    return json.dumps(told)


def answers(edge: Edge, status: int, reason: str = "") -> None:
    edge.bus.answers[contract.AuthorizePayment.subject] = lambda _: contract.PaymentAuthorized(
        status=status, reason=reason
    )


async def test_a_signer_of_go_livepeer_hears_whose_payment_it_may_make(edge: Edge) -> None:
    answers(edge, 200)
    key = edge.issue("acme")

    answer = await authorize(edge, PAYMENT % (key.text, 7))

    [command] = asked(edge, contract.AuthorizePayment)
    assert (answer.status, answer.json) == (200, {"status": 200, "expiry": 0, "auth_id": "acme:ann:1"})
    assert command == {
        "account_id": "acme",
        "user_id": "ann:1",
        "key_id": key.key_id,
        "state_id": "8c1d03aa",
        "sequence": 2**64 - 1,
        "balance": "-1234567890123456789012345/7",
        "price_per_unit": 1200,
        "pixels_per_unit": 7,
        "job_type": "live",
        "last_update_ns": int(NOW.timestamp()) * 10**9 + 123_456_789,
        "app": "live-video-to-video/a-model & more",
        "orchestrator": "0x00000000000000000000000000000000000000ab",
        "token_id": None,
    }


async def test_the_auth_id_can_be_taken_apart_again(edge: Edge) -> None:
    answers(edge, 200)
    body = json.loads(payment(edge.issue("acme").text))
    del body["headers"]["Clearinghouse-User"]

    auth_id = (await authorize(edge, json.dumps(body))).json["auth_id"]

    assert auth_id.partition(":") == ("acme", ":", "")


async def test_a_users_key_pays_for_its_user_whoever_is_named(edge: Edge) -> None:
    answers(edge, 200)

    answer = await authorize(edge, payment(edge.issue("acme", "bob").text))

    assert answer.json["auth_id"] == "acme:bob"


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (483, {"status": 483, "reason": "credit exhausted", "code": "insufficient_balance", "expiry": 0}),
        (503, {"status": 503, "reason": "credit exhausted", "code": "billing_unavailable", "expiry": 0}),
        (429, {"status": 429, "reason": "credit exhausted", "expiry": 0}),
        (403, {"status": 403, "reason": "credit exhausted", "expiry": 0}),
    ],
)
async def test_a_refused_payment_has_its_status_inside(edge: Edge, status: int, told: dict[str, Any]) -> None:
    answers(edge, status, "credit exhausted")

    answer = await authorize(edge, payment(edge.issue().text))

    assert (answer.status, answer.json) == (200, told)


async def test_without_quota_billing_is_unavailable(edge: Edge) -> None:
    edge.bus.answers[contract.AuthorizePayment.subject] = None

    answer = await authorize(edge, payment(edge.issue().text))

    assert (answer.status, answer.json["status"], answer.json["code"]) == (200, 503, "billing_unavailable")


async def test_a_customer_without_a_good_key_is_refused_inside(edge: Edge) -> None:
    held = edge.issue("acme")
    edge.put(held, status="suspended")
    unnamed = json.loads(payment("x"))
    del unnamed["headers"]["Authorization"]
    bodies = [payment("lpch_x"), payment(ADMIN_KEY), json.dumps(unnamed), payment(held.text)]

    found = [(await authorize(edge, body)) for body in bodies]
    edge.identities.ready = False
    found.append(await authorize(edge, payment(edge.issue().text)))

    assert {answer.status for answer in found} == {200}
    assert [answer.json["status"] for answer in found] == [401, 401, 401, 403, 503]
    assert found[3].json["code"] == "account_suspended"
    assert all(answer.json["reason"] for answer in found)
    assert not edge.bus.asked


async def test_a_session_token_is_as_good_as_its_key(edge: Edge) -> None:
    answers(edge, 200)
    issued = (await edge.exchange(edge.issue("acme").text, user_id="ann")).json

    answer = await authorize(edge, payment(issued["access_token"]))

    assert answer.json["auth_id"] == "acme:ann"
    assert asked(edge, contract.AuthorizePayment)[0]["token_id"] == issued["token_id"]


async def test_a_user_that_is_no_id_is_refused_inside(edge: Edge) -> None:
    body = json.loads(payment(edge.issue().text))
    body["headers"]["Clearinghouse-User"] = ["a b"]

    answer = await authorize(edge, json.dumps(body))

    assert (answer.status, answer.json["status"], answer.json["code"]) == (200, 403, "bad_user")


@pytest.mark.parametrize("header", ["x_api_key", "x_webhook_secret"])
async def test_the_secret_may_come_in_other_headers(edge: Edge, header: str) -> None:
    answers(edge, 200)
    headers = {header: HOOK_SECRET}

    assert (await authorize(edge, payment(edge.issue().text), None, **headers)).json["status"] == 200
    assert (await authorize(edge, payment(edge.issue().text), "wrong", **headers)).json["status"] == 200


@pytest.mark.parametrize("secret", [None, "", "wrong", ADMIN_KEY, HOOK_SECRET + "!"])
async def test_without_our_secret_nothing_is_decided(edge: Edge, secret: str | None) -> None:
    answer = await authorize(edge, payment(edge.issue().text), secret, x_api_key="wrong")

    assert (answer.status, answer.json["code"]) == (401, "hook_secret_refused")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert not edge.bus.asked


async def test_where_no_secret_is_set_none_is_right() -> None:
    edge = Edge()

    assert (await authorize(edge, payment(edge.issue().text), "")).status == 401
    assert (await authorize(edge, payment(edge.issue().text))).status == 401


async def test_numbers_may_be_text(edge: Edge) -> None:
    answers(edge, 200)
    told = payment(edge.issue().text, SequenceNumber="3", InitialPricePerUnit="12", Balance="5")

    answer = await authorize(edge, told)

    [command] = asked(edge, contract.AuthorizePayment)
    assert answer.json["status"] == 200
    assert (command["sequence"], command["price_per_unit"], command["balance"]) == (3, 12, "5")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("StateID", None),
        ("StateID", ""),
        ("StateID", "a/b"),
        ("LastUpdate", "2031-05-17 08:00:00Z"),
        ("LastUpdate", "2031-13-17T08:00:00Z"),
        ("LastUpdate", 1_900_000_000),
        ("OrchestratorAddress", "0xab"),
        ("App", "a" * 129),
        ("Balance", "1.5"),
        ("Balance", "1/0"),
        ("Balance", "1e9"),
        ("Balance", 5),
        ("Balance", "9" * 201),
        ("InitialPricePerUnit", -1),
        ("InitialPricePerUnit", 1.5),
        ("InitialPricePerUnit", True),
        ("InitialPricePerUnit", 2**63),
        ("InitialPixelsPerUnit", 0),
        ("SequenceNumber", 2**64),
        ("SequenceNumber", "-1"),
        ("Type", "film"),
    ],
)
async def test_a_state_that_go_livepeer_does_not_write_is_named(edge: Edge, field: str, value: Any) -> None:
    key = edge.issue().text

    answer = await authorize(edge, payment(key, **{field: value}))

    assert answer.status == 422
    assert [error["field"] for error in answer.json["errors"]] == [f"body.state.{field}"]
    assert key not in answer.text
    assert not edge.bus.asked


async def test_what_later_releases_add_is_left_alone(edge: Edge) -> None:
    answers(edge, 200)

    answer = await authorize(edge, payment(edge.issue().text, Later={"a": 1}))

    assert answer.json["status"] == 200


@pytest.mark.parametrize(
    ("balance", "told"),
    [
        (f"{'7' * 99}/{'3' * 100}", f"{'7' * 99}/{'3' * 100}"),
        (f"{10**130 + 1}/{10**120}", str(10**10)),
        (f"-{10**130 + 1}/{10**120}", str(-(10**10) - 1)),
    ],
)
async def test_a_balance_too_exact_to_travel_is_rounded_down(edge: Edge, balance: str, told: str) -> None:
    answers(edge, 200)

    await authorize(edge, payment(edge.issue().text, Balance=balance))

    assert asked(edge, contract.AuthorizePayment)[0]["balance"] == told


async def test_a_state_that_was_never_updated_has_no_time(edge: Edge) -> None:
    answers(edge, 200)

    await authorize(edge, payment(edge.issue().text, LastUpdate="0001-01-01T00:00:00Z"))
    await authorize(edge, payment(edge.issue().text, LastUpdate="2031-05-17T10:00:00.5+02:00"))

    told = [command["last_update_ns"] for command in asked(edge, contract.AuthorizePayment)]
    assert told == [None, int(NOW.timestamp()) * 10**9 + 500_000_000]
