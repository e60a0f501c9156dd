"""`/v1` for stops, one by one and as a list of recipients; quota is a stand-in."""

from typing import Any

import pytest

from contracts.stops import LiftStops, ListStops, SetStops
from tests.unit.edge.edge_app import Edge
from tests.unit.edge.managing import ACTOR, asked, manage, managed

pytestmark = pytest.mark.anyio

RECIPIENT = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"


@pytest.fixture
def edge() -> Edge:
    return managed()


async def test_stops_are_set_listed_and_lifted(edge: Edge) -> None:
    targets = [
        {"what": "everything"},
        {"what": "user", "value": "acme:ann:1"},
        {"what": "recipient", "value": RECIPIENT},
    ]
    body = {"stops": targets, "expires_at": "2031-05-18T00:00:00Z", "reason": "incident_7"}
    stopped = await manage(edge, "POST", "/v1/stops", body)
    listed = await manage(edge, "GET", "/v1/stops?limit=1")
    await manage(edge, "GET", f"/v1/stops?cursor={listed.json['next']}")
    lifted = await manage(edge, "POST", "/v1/stops/lift", {"stops": targets[:1]})

    [command] = asked(edge, SetStops)
    told = [(stop["what"], stop["value"]) for stop in command["stops"]]
    expected = [("everything", ""), ("user", "acme:ann:1"), ("recipient", RECIPIENT.lower())]
    assert told == expected
    assert (command["expires_at"], command["reason"]) == ("2031-05-18T00:00:00Z", "incident_7")
    assert [(stop["what"], stop["value"]) for stop in stopped.json["stops"]] == expected
    assert asked(edge, ListStops)[1]["after"] == "app:demo"
    assert (lifted.status, lifted.text) == (204, "")
    assert asked(edge, LiftStops)[0]["actor"] == ACTOR


@pytest.mark.parametrize(
    ("target", "field"),
    [
        ({"what": "everybody"}, "what"),
        ({"what": "everything", "value": "x"}, "value"),
        ({"what": "account", "value": "No"}, "value"),
        ({"what": "account"}, "value"),
        ({"what": "user", "value": "acme"}, "value"),
        ({"what": "key", "value": "short"}, "value"),
        ({"what": "job_type", "value": "film"}, "value"),
        ({"what": "app"}, "value"),
        ({"what": "recipient", "value": "0x12"}, "value"),
        ({"what": "payer", "value": RECIPIENT.replace("aA", "AA")}, "value"),
        ({"what": "app", "value": "a", "reason": "b"}, "reason"),
    ],
)
async def test_a_stop_of_nothing_we_know_is_named(edge: Edge, target: dict[str, str], field: str) -> None:
    refused = await manage(edge, "POST", "/v1/stops", {"stops": [{"what": "everything"}, target]})

    assert refused.status == 422
    assert [error["field"] for error in refused.json["errors"]] == [f"body.stops.1.{field}"]
    assert "\n" not in refused.json["detail"]


async def import_csv(edge: Edge, text: bytes, query: str = "") -> Any:
    headers = {"content-type": "text/csv", "authorization": "Bearer an-administrators-key-of-these-tests"}
    return await edge.call("POST", f"/v1/stops{query}", body=text, headers=headers)


async def test_a_deny_list_of_recipients_is_imported(edge: Edge) -> None:
    other = "0x" + "ab" * 20
    text = f'\ufeffrecipient,why\r\n{RECIPIENT},"stolen"\r\n\r\n# a remark\r\n"{other}"\r\n'

    answer = await import_csv(edge, text.encode(), "?reason=sanctioned")

    [command] = asked(edge, SetStops)
    assert answer.status == 200, answer.text
    assert command["stops"] == [{"what": "recipient", "value": value} for value in (RECIPIENT.lower(), other)]
    assert command["reason"] == "sanctioned"


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (b"0x12\n", "body.stops.0.value"),
        (b"", "body"),
        (b"# nothing\n", "body.stops"),
        (b"\xff", "body"),
        (b"\n".join(b"0x%040x" % number for number in range(501)), "body.stops"),
    ],
)
async def test_a_bent_deny_list_stops_nothing(edge: Edge, text: bytes, field: str) -> None:
    answer = await import_csv(edge, text)

    assert answer.status == 422
    assert {error["field"] for error in answer.json["errors"]} == {field}
    assert not asked(edge, SetStops)
