"""Events of signed tickets over HTTP: whose may be told by whom, and what becomes of each."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from contracts.accounts import GetAccount
from contracts.signed_tickets import RecordSignedTickets, SignedTicketsAnswered
from contracts.ticket_events import read_event, read_json
from services.edge.gate import PUSHED_BYTES_MAX
from services.edge.recording_lines import ticket_line
from tests.told_tickets import event, lines
from tests.unit.edge.edge_app import NOW, Answer, Edge
from tests.unit.edge.managing import ADMIN_KEY, HOOK_SECRET, asked, managed

pytestmark = pytest.mark.anyio

PATH = "/v1/usage/tickets"


@pytest.fixture
async def edge() -> AsyncIterator[Edge]:
    edge = managed()
    recorded: set[str] = set()

    def record(command: dict[str, Any]) -> SignedTicketsAnswered:
        ids = [ticket["event_id"] for ticket in command["tickets"]]
        outcomes = [
            "repeated" if each in recorded or each in ids[:place] else "recorded"
            for place, each in enumerate(ids)
        ]
        recorded.update(ids)
        return SignedTicketsAnswered.model_validate({"outcomes": outcomes})

    edge.bus.answers[RecordSignedTickets.subject] = record
    running = asyncio.create_task(edge.tickets.run())
    yield edge
    running.cancel()


async def tell(
    edge: Edge,
    body: bytes | str,
    credential: str | None = ADMIN_KEY,
    kind: str = "application/x-ndjson",
    **headers: str,
) -> Answer:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return await edge.call(
        "POST", PATH, credential=credential, body=body, headers={"content-type": kind, **sent}
    )


def statuses(answer: Answer) -> list[str]:
    assert answer.status == 200, answer.text
    return [each["status"] for each in answer.json["events"]]


async def test_each_line_is_answered_in_its_order(edge: Edge) -> None:
    good, other, bad = event(), event(1, type="create_new_payment"), event(2, computed_fee="1.5")

    answer = await tell(edge, lines(good, other, bad, good) + b"\n  \nnonsense\n")

    assert answer.json["events"] == [
        {"line": 1, "id": good["id"], "status": "recorded", "code": None, "field": None, "detail": None},
        {"line": 2, "id": other["id"], "status": "ignored", "code": None, "field": None, "detail": None},
        {
            "line": 3,
            "id": bad["id"],
            "status": "refused",
            "code": "bad_event",
            "field": "data.computed_fee",
            "detail": "String should match pattern '^[0-9]{1,77}$'",
        },
        {"line": 4, "id": good["id"], "status": "repeated", "code": None, "field": None, "detail": None},
        {
            "line": 7,
            "id": None,
            "status": "refused",
            "code": "bad_event",
            "field": None,
            "detail": "not JSON",
        },
    ]


async def test_an_array_is_as_good_as_lines(edge: Edge) -> None:
    answer = await tell(edge, json.dumps([event(), 5]), kind="application/json; charset=utf-8")

    assert statuses(answer) == ["recorded", "refused"]
    [command] = asked(edge, RecordSignedTickets)
    assert command["tickets"][0]["fee"] == "2764811"


async def test_whoever_asks_authorize_may_tell_what_became_of_it(edge: Edge) -> None:
    assert statuses(await tell(edge, lines(event()), HOOK_SECRET)) == ["recorded"]
    assert statuses(await tell(edge, lines(event()), None, x_api_key=HOOK_SECRET)) == ["repeated"]


async def test_an_account_tells_its_own(edge: Edge) -> None:
    key = edge.issue("acme").text

    answer = await tell(edge, lines(event(), event(1, auth_id="other:x"), event(2, auth_id="")), key)

    assert statuses(answer) == ["recorded", "refused", "recorded"]
    assert (answer.json["events"][1]["code"], answer.json["events"][1]["field"]) == (
        "account_not_found",
        "data.auth_id",
    )
    assert not asked(edge, GetAccount)


async def test_a_user_may_not_tell_what_the_account_signed(edge: Edge) -> None:
    answer = await tell(edge, lines(event()), edge.issue("acme", "ann").text)

    assert (answer.status, answer.json["code"]) == (403, "account_key_needed")


@pytest.mark.parametrize("credential", [None, "", "nonsense"])
async def test_a_stranger_tells_nothing(edge: Edge, credential: str | None) -> None:
    assert (await tell(edge, lines(event()), credential)).status == 401
    assert not edge.bus.asked


async def test_an_account_that_is_not_there_is_named_and_asked_of_once_if_it_is(edge: Edge) -> None:
    body = lines(event(), event(1, auth_id="nobody:x"), event(2), event(3, auth_id=""))

    first, second = await tell(edge, body), await tell(edge, body)

    assert statuses(first) == ["recorded", "refused", "recorded", "refused"]
    assert statuses(second) == ["repeated", "refused", "repeated", "refused"]
    assert [each["code"] for each in first.json["events"]] == [
        None,
        "account_not_found",
        None,
        "auth_id_missing",
    ]
    assert sorted(each["account_id"] for each in asked(edge, GetAccount)) == ["acme", "nobody", "nobody"]


@pytest.mark.parametrize(
    ("body", "kind", "status", "code"),
    [
        (b"{", "application/json", 400, "malformed_json"),
        (b"", "application/json", 400, "malformed_json"),
        (b"{}", "application/json", 422, "invalid_request"),
        (b"[]", "text/plain", 415, "unsupported_media_type"),
        (b"[" + b"1," * 500 + b"1]", "application/json", 413, "too_many_events"),
        (b"1\n" * 501, "application/x-ndjson", 413, "too_many_events"),
        (b" " * (PUSHED_BYTES_MAX + 1), "application/json", 413, "body_too_large"),
    ],
)
async def test_a_request_that_cannot_be_meant_is_refused_as_a_whole(
    edge: Edge, body: bytes, kind: str, status: int, code: str
) -> None:
    answer = await tell(edge, body, kind=kind)

    assert (answer.status, answer.json["code"]) == (status, code)


async def test_nothing_to_tell_is_no_mistake(edge: Edge) -> None:
    assert statuses(await tell(edge, b"\n")) == []
    assert statuses(await tell(edge, b"[]", kind="application/json")) == []


async def test_five_hundred_events_are_told_at_once(edge: Edge) -> None:
    body = lines(*(event(number) for number in range(500)))

    assert statuses(await tell(edge, body)) == ["recorded"] * 500


async def test_what_waits_travels_together_up_to_five_hundred(edge: Edge) -> None:
    line = ticket_line(cast("Any", edge.bus))
    tickets = [read_event(read_json(json.dumps(event(number))), NOW) for number in range(300)]
    waiting = [
        asyncio.create_task(line.record(cast("Any", each), 1)) for each in (tickets, tickets[:200], tickets)
    ]
    await asyncio.sleep(0)

    running = asyncio.create_task(line.run())
    outcomes = await asyncio.gather(*waiting)

    running.cancel()
    assert [set(each) for each in outcomes] == [{"recorded"}, {"repeated"}, {"repeated"}]
    assert [len(command["tickets"]) for command in asked(edge, RecordSignedTickets)] == [500, 300]


@pytest.mark.parametrize("silent", [RecordSignedTickets, GetAccount])
async def test_what_is_not_durable_is_not_answered_as_if(edge: Edge, silent: Any) -> None:
    edge.bus.answers[silent.subject] = None

    answer = await tell(edge, lines(event()))

    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
