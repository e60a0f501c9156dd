"""A session token is ended before its time: by its account or an administrator, and nobody else."""

import pytest

from contracts.limits import EndToken, Scoped
from services.edge import admission
from services.edge.caps import Pace
from tests.unit.edge.edge_app import NOW, Edge
from tests.unit.edge.managing import ACTOR, asked, manage, managed, send

pytestmark = pytest.mark.anyio

TOKEN = "/v1/accounts/acme/tokens/0123456789Ab"


@pytest.fixture
def edge() -> Edge:
    return managed()


async def test_an_account_and_an_administrator_end_a_token(edge: Edge) -> None:
    key = edge.issue()

    answers = [
        await send(edge, "DELETE", TOKEN, key.text),
        await manage(edge, "DELETE", f"{TOKEN}?reason=lost_phone"),
    ]

    named = {"account_id": "acme", "token_id": "0123456789Ab"}
    assert [(answer.status, answer.text) for answer in answers] == [(204, "")] * 2
    assert asked(edge, EndToken) == [
        {**named, "actor": f"key:{key.key_id}", "reason": "unspecified"},
        {**named, "actor": ACTOR, "reason": "lost_phone"},
    ]


async def test_nobody_else_does(edge: Edge) -> None:
    token = (await edge.exchange(edge.issue().text, user_id="ann")).json
    path = f"/v1/accounts/acme/tokens/{token['token_id']}"

    answers = [
        await send(edge, "DELETE", path, edge.issue("other").text),
        await send(edge, "DELETE", path, edge.issue(user_id="ann").text),
        await send(edge, "DELETE", path, token["access_token"]),
        await send(edge, "DELETE", path, None),
        await manage(edge, "DELETE", path.replace("acme", "nobody")),
    ]

    assert [answer.status for answer in answers] == [404, 403, 403, 401, 404]
    assert not asked(edge, EndToken)


@pytest.mark.parametrize("token_id", ["0123456789A", "0123456789Abc", "0123456789A_", "a:b"])
async def test_what_is_no_token_is_named(edge: Edge, token_id: str) -> None:
    answer = await manage(edge, "DELETE", f"/v1/accounts/acme/tokens/{token_id}")

    assert (answer.status, answer.json["errors"][0]["field"]) == (422, "path.token_id")


async def test_a_key_ends_no_more_tokens_a_second_than_it_makes(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "TOKENS", Pace(per_second=0.001, burst=2))
    key = edge.issue()

    answers = [await send(edge, "DELETE", TOKEN, key.text) for _ in range(3)]

    assert [answer.status for answer in answers] == [204, 204, 429]
    assert (await manage(edge, "DELETE", TOKEN)).status == 204


@pytest.mark.parametrize("limits", [{}, {"sessions_max": 1}])
async def test_an_ended_token_is_refused_wherever_it_is_shown(limits: dict[str, int]) -> None:
    edge = Edge()
    key = edge.issue()
    ended, other = [(await edge.exchange(key.text, user_id="ann", limits=limits)).json for _ in range(2)]
    assert (await edge.pay(ended["access_token"])).status == 200

    edge.rule(Scoped(account_id="acme", token_id=ended["token_id"]), rules={"expires_at": NOW})

    assert (await edge.pay(ended["access_token"])).status == 401
    assert (await edge.call("GET", "/v1/me", credential=ended["access_token"])).json["code"] == "key_expired"
    assert (await edge.pay(other["access_token"])).status == 200
    assert (await edge.pay(key.text)).status == 200
