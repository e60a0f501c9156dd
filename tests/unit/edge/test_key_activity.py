"""`/v1/keys/{id}/activity`: who may read what a key does; quota and accounts are stand-ins."""

from datetime import date, timedelta
from typing import Any

import pytest

from contracts import key_watch, limits
from contracts.accounts import FindIdentity
from tests.unit.edge.edge_app import NOW, Edge
from tests.unit.edge.managing import asked, manage, managed, send

pytestmark = pytest.mark.anyio


def path(key_id: str) -> str:
    return f"/v1/keys/{key_id}/activity"


def _activity(data: dict[str, Any]) -> key_watch.KeyActivity:
    alarm = key_watch.AlarmRow(at=NOW, alarm="spend", value="", spent_wei=2**70, usual_wei=7, held=True)
    seen = {"first_seen_at": NOW - timedelta(days=3), "last_seen_at": NOW}
    return key_watch.KeyActivity(
        account_id=data["account_id"],
        key_id=data["key_id"],
        networks=[key_watch.NetworkRow(network="192.0.2.0/24", **seen)],
        recipients=[],
        spent_this_hour_wei=2**70,
        highest_hours=[key_watch.HighestHour(day=date(2031, 5, 16), spent_wei=7)],
        alarms=[alarm],
        stop=key_watch.KeyStop(reason="alarm_spend", set_at=NOW, expires_at=None),
    )


@pytest.fixture
def edge() -> Edge:
    edge = managed()
    edge.bus.answers[key_watch.ReadKeyActivity.subject] = _activity
    return edge


async def test_a_key_reads_its_own_and_accounts_is_not_asked(edge: Edge) -> None:
    key = edge.issue(user_id="ann")

    read = await send(edge, "GET", path(key.key_id), key.text)

    assert read.status == 200
    assert read.json == {
        "account_id": "acme",
        "key_id": key.key_id,
        "networks": [
            {
                "network": "192.0.2.0/24",
                "first_seen_at": "2031-05-14T08:00:00Z",
                "last_seen_at": "2031-05-17T08:00:00Z",
            }
        ],
        "recipients": [],
        "spent_this_hour_wei": str(2**70),
        "highest_hours": [{"day": "2031-05-16", "spent_wei": "7"}],
        "alarms": [
            {
                "at": "2031-05-17T08:00:00Z",
                "alarm": "spend",
                "value": "",
                "spent_wei": str(2**70),
                "usual_wei": "7",
                "held": True,
            }
        ],
        "stop": {"reason": "alarm_spend", "set_at": "2031-05-17T08:00:00Z", "expires_at": None},
    }
    assert asked(edge, FindIdentity) == []


async def test_an_administrator_reads_any_and_an_accounts_key_those_of_its_account(edge: Edge) -> None:
    key, other = edge.issue(), edge.issue("another")

    mine = await send(edge, "GET", path(edge.issue(user_id="ann").key_id), key.text)
    any_key = await manage(edge, "GET", path(other.key_id))

    assert (mine.status, mine.json["account_id"]) == (200, "acme")
    assert (any_key.status, any_key.json["account_id"]) == (200, "another")


async def test_a_foreign_key_answers_like_one_that_nobody_has(edge: Edge) -> None:
    key, foreign = edge.issue(user_id="ann"), edge.issue("another")

    for shown in (key, edge.issue()):
        answers = [
            await send(edge, "GET", path(key_id), shown.text) for key_id in (foreign.key_id, "NobodysKey12")
        ]

        assert [(answer.status, answer.json["code"]) for answer in answers] == [(404, "key_not_found")] * 2
    assert (await manage(edge, "GET", path("NobodysKey12"))).status == 404
    assert asked(edge, key_watch.ReadKeyActivity) == []


async def test_a_users_key_reads_no_other_and_a_session_token_none(edge: Edge) -> None:
    key, users = edge.issue(), edge.issue(user_id="ann")
    assert edge.tokens is not None
    token = edge.tokens.make(
        account_id="acme", user_id="ann", key_id=key.key_id, lifetime=timedelta(hours=1), limited=False
    )

    by_user = await send(edge, "GET", path(key.key_id), users.text)
    by_token = await send(edge, "GET", path(key.key_id), token.text)

    assert (by_user.status, by_user.json["code"]) == (403, "account_key_needed")
    assert (by_token.status, by_token.json["code"]) == (403, "api_key_needed")
    assert (await send(edge, "GET", path(key.key_id), None)).status == 401
    assert asked(edge, key_watch.ReadKeyActivity) == []


async def test_alarms_are_set_for_keys_and_refused_for_others_by_name(edge: Edge) -> None:
    key = edge.issue()
    body = {"alarms": {"spend_times": 8, "recipient": False, "holds": ["spend"]}}

    of_key = await manage(edge, "PUT", f"/v1/accounts/acme/keys/{key.key_id}/limits", body)
    of_others = [
        await manage(edge, "PUT", f"/v1/accounts/acme/{of}limits", body) for of in ("", "users/ann/")
    ]
    mistyped = await manage(
        edge, "PUT", f"/v1/accounts/acme/keys/{key.key_id}/limits", {"alarms": {"spend_tims": 8}}
    )

    assert of_key.status == 200
    [command] = asked(edge, limits.SetLimits)
    told = {"spend_times": 8, "network": True, "recipient": False, "holds": ["spend"]}
    assert command["limits"]["alarms"] == told
    assert [(refused.status, refused.json["errors"][0]["field"]) for refused in of_others] == [
        (422, "body.alarms")
    ] * 2
    assert mistyped.json["errors"][0]["field"] == "body.alarms.spend_tims"
