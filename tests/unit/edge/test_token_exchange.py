"""`POST /v1/tokens`, and what a session token then opens."""

import json
from base64 import b64decode
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest

from contracts.limits import Limits, Scoped
from services.edge import admission
from services.edge.caps import Pace
from tests.unit.edge.edge_app import NOW, Answer, Edge

pytestmark = pytest.mark.anyio

GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT = "urn:ietf:params:oauth:token-type:jwt"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
FORM = {"content-type": "application/x-www-form-urlencoded"}
JSON = {"content-type": "application/json; charset=utf-8"}


async def exchange_form(edge: Edge, credential: str, **parameters: Any) -> Answer:
    body = urlencode({"grant_type": GRANT, "requested_token_type": JWT, **parameters})
    return await edge.call("POST", "/v1/tokens", credential=credential, body=body, headers=FORM)


async def test_a_key_is_exchanged_for_a_token_of_one_user() -> None:
    edge = Edge()
    key = edge.issue()

    issued = await exchange_form(edge, key.text, user_id="ann", expires_in=600)

    assert issued.status == 200
    assert issued.headers["cache-control"] == "no-store"
    assert set(issued.json) == {
        "access_token",
        "issued_token_type",
        "token_type",
        "expires_in",
        "token_id",
        "sdk_token",
    }
    told = (issued.json["issued_token_type"], issued.json["token_type"], issued.json["expires_in"])
    assert told == (JWT, "Bearer", 600)
    assert edge.bus.set == []  # it has no limits of its own


async def test_a_payment_with_a_token_is_its_users_and_its_keys() -> None:
    edge = Edge()
    key = edge.issue()
    issued = (await edge.exchange(key.text, user_id="ann")).json

    paid = await edge.pay(issued["access_token"], headers={"clearinghouse-user": "ben"})

    assert paid.status == 200
    [payment] = edge.gatherer.payments
    assert (payment.account_id, payment.user_id, payment.key_id) == ("acme", "ann", key.key_id)
    assert (payment.token_id, payment.user_bound) == (issued["token_id"], True)


async def test_the_sdk_token_shows_the_session_token() -> None:
    from livepeer_gateway.token import parse_token  # noqa: PLC0415 (slow)

    edge = Edge()
    issued = (await edge.exchange(edge.issue().text, user_id="ann")).json

    parsed = parse_token(issued["sdk_token"])

    assert parsed["signer_headers"] == {"Authorization": f"Bearer {issued['access_token']}"}
    assert parsed["signer"] == "https://pay.example"
    assert b"lpch_" not in b64decode(issued["sdk_token"])


async def test_limits_are_stored_before_the_token_is_handed_out() -> None:
    edge = Edge()
    key = edge.issue()
    limits = {
        "spend_per_hour_wei": "1500000000000000",
        "spend_limit_micro_usd": 250_000,
        "sessions_max": 1,
        "networks": ["198.51.100.0/24"],
        "recipients": ["0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"],
        "job_types": ["live", ""],
        "prices_max": {"live": "1200/7"},
    }

    issued = await exchange_form(edge, key.text, user_id="ann", limits=json.dumps(limits))

    [command] = edge.bus.set
    assert (command.account_id, command.token_id) == ("acme", issued.json["token_id"])
    assert (command.user_id, command.key_id) == (None, None)
    assert (command.actor, command.reason) == (f"key:{key.key_id}", "session_token")
    assert command.limits == Limits.model_validate(
        {
            **limits,
            "recipients": ["0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed"],
            "expires_at": NOW + timedelta(hours=1),
        }
    )


async def test_limits_do_not_travel_in_the_token() -> None:
    edge = Edge()
    issued = await edge.exchange(edge.issue().text, user_id="ann", limits={"apps": ["canary-app"]})

    claims = issued.json["access_token"].split(".")[1]

    assert b"canary-app" not in b64decode(claims + "==")


async def test_a_token_is_bound_by_its_own_networks_and_not_by_where_its_key_is_kept() -> None:
    edge = Edge()
    key = edge.issue()
    edge.rule(Scoped(account_id="acme", key_id=key.key_id), rules={"networks": ["198.51.100.0/24"]})
    free = (await edge.exchange(key.text, user_id="ann")).json["access_token"]
    bound = (await edge.exchange(key.text, user_id="ann", limits={"networks": ["203.0.113.0/24"]})).json

    assert (await edge.pay(free, peer="203.0.113.5")).status == 200
    assert (await edge.pay(bound["access_token"], peer="203.0.113.5")).status == 200
    assert (await edge.pay(bound["access_token"])).status == 403
    edge.rule(Scoped(account_id="acme"), rules={"networks": ["198.51.100.0/24"]})
    assert (await edge.pay(free, peer="203.0.113.5")).status == 403


async def test_a_token_whose_limits_have_not_arrived_waits() -> None:
    edge = Edge()
    token = (await edge.exchange(edge.issue().text, user_id="ann", limits={"sessions_max": 1})).json
    edge.rules.entries.clear()

    assert (await edge.pay(token["access_token"])).status == 503


async def test_a_token_ends_stops_with_its_key_and_can_be_ended_before() -> None:
    edge = Edge()
    keys = [edge.issue() for _ in range(4)]
    ended, revoked, expired, taken_back = [
        (await edge.exchange(key.text, user_id="ann", expires_in=60)).json for key in keys
    ]
    edge.put(keys[1], "revoked")
    edge.rule(Scoped(account_id="acme", key_id=keys[2].key_id), rules={"expires_at": NOW})
    edge.rule(Scoped(account_id="acme", token_id=taken_back["token_id"]), rules={"expires_at": NOW})

    for token in (revoked, expired, taken_back):
        assert (await edge.pay(token["access_token"])).status == 401
    assert (await edge.pay(ended["access_token"])).status == 200
    edge.clock.advance(timedelta(seconds=60))
    assert (await edge.pay(ended["access_token"])).status == 401


async def test_payments_a_second_of_a_token_bound_it_here_too() -> None:
    edge = Edge()
    key = edge.issue()
    limits = {"payments_per_second": 1}
    slow, other = [
        (await edge.exchange(key.text, user_id="ann", limits=limits)).json["access_token"] for _ in range(2)
    ]

    assert [(await edge.pay(slow)).status for _ in range(5)].count(429) >= 1
    assert (await edge.pay(other)).status == 200


async def test_a_token_opens_no_more_than_a_users_own_key() -> None:
    edge = Edge()
    token = (await edge.exchange(edge.issue().text, user_id="ann")).json["access_token"]

    me = await edge.call("GET", "/v1/me", credential=token)
    account = await edge.call("GET", "/v1/accounts/acme", credential=token)
    accounts = await edge.call("GET", "/v1/accounts", credential=token)

    assert (me.status, me.json["user_id"]) == (200, "ann")
    assert [(account.status, account.json["code"]), (accounts.status, accounts.json["code"])] == [
        (403, "account_key_needed"),
        (403, "administrator_needed"),
    ]


async def test_a_token_makes_no_token() -> None:
    edge = Edge()
    key = edge.issue()
    token = (await edge.exchange(key.text, user_id="ann")).json["access_token"]

    by_token = await edge.exchange(token)
    of_token = await edge.exchange(key.text, subject_token=token, user_id="ann")

    assert (by_token.status, by_token.json["code"]) == (400, "unauthorized_client")
    assert (of_token.status, of_token.json["code"]) == (400, "invalid_request")


async def test_a_users_key_makes_tokens_of_that_user_only() -> None:
    edge = Edge()
    key = edge.issue(user_id="ann")

    assert (await edge.exchange(key.text)).status == 200
    assert (await edge.exchange(key.text, user_id="ann")).status == 200
    refused = await edge.exchange(key.text, user_id="ben")
    assert (refused.status, refused.json["code"]) == (400, "invalid_request")


async def test_the_subject_may_be_another_key_of_the_account() -> None:
    edge = Edge()
    key, subject, of_ann = edge.issue(), edge.issue(), edge.issue(user_id="ann")

    by_subject = await edge.exchange(
        key.text, subject_token=subject.text, subject_token_type=ACCESS_TOKEN, user_id="ann"
    )
    edge.put(subject, "revoked")

    assert by_subject.status == 200
    assert (await edge.pay(by_subject.json["access_token"])).status == 401
    assert (await edge.exchange(key.text, subject_token=of_ann.text)).status == 200


async def test_a_subject_that_is_not_the_callers_is_refused() -> None:
    edge = Edge()
    of_ann, of_account, foreign = edge.issue(user_id="ann"), edge.issue(), edge.issue("other")
    gone = edge.issue()
    edge.put(gone, "revoked")

    for caller, subject in (
        (of_account.text, foreign.text),
        (of_account.text, gone.text),
        (of_account.text, "nonsense"),
        (of_ann.text, of_account.text),
    ):
        refused = await edge.exchange(caller, subject_token=subject, user_id="ann")
        assert (refused.status, refused.json["code"]) == (400, "invalid_request")
        assert subject not in refused.text
    assert edge.asked == []


async def test_without_a_key_there_is_no_token() -> None:
    edge = Edge()

    refused = await edge.exchange(None, user_id="ann")

    assert (refused.status, refused.json["code"]) == (401, "key_refused")


async def test_without_keys_for_them_there_are_no_tokens() -> None:
    edge = Edge(token_keys=())

    refused = await edge.exchange(edge.issue().text, user_id="ann")

    assert (refused.status, refused.json["code"]) == (503, "tokens_not_configured")


async def test_a_key_makes_so_many_tokens_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "TOKENS", Pace(per_second=0.001, burst=2))
    edge = Edge()
    key, other = edge.issue(), edge.issue()

    found = [await edge.exchange(key.text, user_id="ann") for _ in range(3)]

    assert [answer.status for answer in found] == [200, 200, 429]
    assert (found[2].json["code"], found[2].headers["retry-after"]) == ("rate_limited", "1000")
    assert (await edge.exchange(other.text, user_id="ann")).status == 200


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": None}, "unsupported_grant_type"),
        ({"requested_token_type": ACCESS_TOKEN}, "invalid_request"),
        ({"subject_token_type": JWT}, "invalid_request"),
        ({"user_id": None}, "invalid_request"),
        ({"user_id": "an n"}, "invalid_request"),
        ({"user_id": "lpch_0123456789AB_x"}, "invalid_request"),
        ({"expires_in": 59}, "invalid_request"),
        ({"expires_in": 86_401}, "invalid_request"),
        ({"expires_in": "soon"}, "invalid_request"),
        ({"limits": "{"}, "invalid_request"),
        ({"limits": "[]"}, "invalid_request"),
        ({"limits": {"spend_limit_wei": "-1"}}, "invalid_request"),
        ({"limits": {"spend_limit_wei": "9" * 78}}, "invalid_request"),
        ({"limits": {"overage": True}}, "invalid_request"),
        ({"limits": {"expires_at": "2040-01-01T00:00:00Z"}}, "invalid_request"),
        ({"limits": {"networks": ["here"]}}, "invalid_request"),
        ({"limits": {"recipients": ["0x5aaeB6053F3E94C9b9A09f33669435E7Ef1BeAed"]}}, "invalid_request"),
        ({"scope": "everything"}, "invalid_scope"),
        ({"audience": "somebody"}, "invalid_target"),
        ({"resource": "https://other.example"}, "invalid_target"),
        ({"limit": {}}, "invalid_request"),
    ],
)
async def test_a_wrong_parameter_is_named_and_refused(parameters: dict[str, Any], code: str) -> None:
    edge = Edge()
    asked = {"grant_type": GRANT, "user_id": "ann", **parameters}
    body = json.dumps({name: value for name, value in asked.items() if value is not None})

    refused = await edge.call("POST", "/v1/tokens", credential=edge.issue().text, body=body, headers=JSON)

    assert (refused.status, refused.json["code"]) == (400, code)
    assert next(iter(parameters)) in refused.json["detail"]
    assert edge.bus.set == []


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ("", FORM),
        ("grant_type", FORM),
        (f"grant_type={GRANT}&user_id=ann&user_id=ben", FORM),
        ("&".join(f"p{number}=x" for number in range(40)), FORM),
        (b"grant_type=\xff", FORM),
        ("grant_type=%ff", FORM),
        ("{", JSON),
        ("[]", JSON),
        ("", JSON),
        (b'"\xff"', JSON),
        (json.dumps({"grant_type": GRANT, "user_id": "ann"}), {"content-type": "text/plain"}),
        (json.dumps({"grant_type": GRANT, "user_id": "ann"}), {}),
    ],
)
async def test_a_body_that_cannot_be_read_is_refused(body: str | bytes, headers: dict[str, str]) -> None:
    edge = Edge()

    refused = await edge.call("POST", "/v1/tokens", credential=edge.issue().text, body=body, headers=headers)

    assert (refused.status, refused.headers["content-type"]) == (400, "application/problem+json")
    assert refused.json["code"] in {"invalid_request", "unsupported_grant_type"}
