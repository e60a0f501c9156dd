"""`/v1/usage/events`: events of the official client are read, and each is answered as metering says."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.bindings.http import HTTPMessage, to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent

from contracts.message import Fault, Message
from contracts.usage_events import EVENTS_MAX, RecordUsageEvents, UsageEventsAnswered
from tests.unit.edge.edge_app import Answer, Edge
from tests.unit.edge.managing import ADMIN_KEY, asked, managed

pytestmark = pytest.mark.anyio

PATH = "/v1/usage/events"
BATCH = "application/cloudevents-batch+json"
EVENT = {"specversion": "1.0", "id": "1", "source": "app", "type": "used"}
HEADERS = {"content-type": BATCH}
REFUSED = {"status": "refused", "code": "unfit_value", "field": "data.n", "detail": "missing"}


def outcomes(command: dict[str, Any]) -> Message:
    """Metering: what has been recorded, by what its id begins with."""
    kinds: Mapping[str, Any] = {"again": {"status": "repeated"}, "unfit": REFUSED}
    told = [kinds.get(each["event_id"].split("-")[0], {"status": "recorded"}) for each in command["events"]]
    return _answered(told)


def _answered(told: list[Any]) -> Message:
    return UsageEventsAnswered.model_validate({"outcomes": told})


def edge_with(answer: Callable[[dict[str, Any]], Message] | None = outcomes) -> Edge:
    edge = managed()
    edge.bus.answers[RecordUsageEvents.subject] = answer
    return edge


@asynccontextmanager
async def sending(edge: Edge) -> AsyncIterator[None]:
    task = asyncio.create_task(edge.usage_events.run())
    try:
        yield
    finally:
        task.cancel()


async def push(
    edge: Edge, body: Any, *, key: str | None = None, path: str = PATH, media_type: str = BATCH
) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with sending(edge):
        return await edge.call(
            "POST",
            path,
            credential=key or edge.issue().text,
            body=data,
            headers={"content-type": media_type},
        )


async def push_message(edge: Edge, message: HTTPMessage) -> Answer:
    headers = {name.lower(): value for name, value in message.headers.items()}
    async with sending(edge):
        return await edge.call("POST", PATH, credential=edge.issue().text, body=message.body, headers=headers)


def told(edge: Edge) -> list[dict[str, Any]]:
    return [event for command in asked(edge, RecordUsageEvents) for event in command["events"]]


@pytest.mark.parametrize("to_http", [to_structured_event, to_binary_event])
async def test_events_of_the_official_client_are_recorded(
    to_http: Callable[[CloudEvent], HTTPMessage],
) -> None:
    edge = edge_with()
    attributes = {
        "id": "job 7 ä",
        "source": "/my app",
        "type": "used",
        "subject": "ann",
        "time": datetime(2031, 5, 17, 12, tzinfo=UTC),
    }

    answer = await push_message(edge, to_http(CloudEvent(attributes, {"n": 7, "of": "x"})))

    [event] = told(edge)
    assert answer.status == 202
    assert (answer.json["id"], answer.json["source"], answer.json["status"]) == (
        "job 7 ä",
        "/my app",
        "recorded",
    )
    assert event == {
        "account_id": "acme",
        "source": "/my app",
        "event_id": "job 7 ä",
        "type": "used",
        "user_id": "ann",
        "own_only": False,
        "at": "2031-05-17T12:00:00Z",
        "numbers": {"n": "7"},
        "texts": {"of": "x"},
        "corrects": None,
        "voids": False,
    }


@pytest.mark.parametrize("to_http", [to_structured_event, to_binary_event])
async def test_a_void_of_the_official_client_is_one(to_http: Callable[[CloudEvent], HTTPMessage]) -> None:
    edge = edge_with()
    attributes = {"id": "2", "source": "app", "type": "used", "corrects": "1"}

    answer = await push_message(edge, to_http(CloudEvent(attributes)))

    [event] = told(edge)
    assert (answer.status, event["corrects"], event["voids"]) == (202, "1", True)


async def test_each_event_of_a_batch_is_answered_in_its_order() -> None:
    edge = edge_with()
    bad = {**EVENT, "data": {"n": []}}
    events = [{**EVENT, "id": "again-1"}, bad, {**EVENT, "id": "unfit-1"}, 7, EVENT]

    answer = await push(edge, events)

    assert answer.status == 202
    assert [(each["id"], each["status"], each["code"], each["field"]) for each in answer.json["events"]] == [
        ("again-1", "repeated", None, None),
        ("1", "refused", "bad_event", "data.n"),
        ("unfit-1", "refused", "unfit_value", "data.n"),
        (None, "refused", "bad_event", None),
        ("1", "recorded", None, None),
    ]
    assert [event["event_id"] for event in told(edge)] == ["again-1", "unfit-1", "1"]


async def test_a_single_event_is_refused_as_a_problem_with_its_field() -> None:
    edge = edge_with()
    structured = "application/cloudevents+json"

    unfit = await push(edge, {**EVENT, "id": "unfit-1"}, media_type=structured)
    bad = await push(edge, {**EVENT, "id": ""}, media_type=structured)
    repeated = await push(edge, {**EVENT, "id": "again-1"}, media_type=structured)

    assert (unfit.status, unfit.json["code"], unfit.json["errors"]) == (
        422,
        "unfit_value",
        [{"field": "data.n", "message": "missing"}],
    )
    assert (bad.status, bad.json["code"], bad.json["errors"][0]["field"]) == (422, "bad_event", "id")
    assert (repeated.status, repeated.json["status"]) == (200, "repeated")


async def test_a_users_key_books_to_its_user_and_to_no_other() -> None:
    edge = edge_with()
    key = edge.issue(user_id="ann").text

    own = await push(edge, [EVENT], key=key)
    foreign = await push(
        edge, {**EVENT, "subject": "bob"}, key=key, media_type="application/cloudevents+json"
    )

    [event] = told(edge)
    assert (own.status, event["user_id"], event["own_only"]) == (202, "ann", True)
    assert (foreign.status, foreign.json["code"]) == (403, "subject_not_allowed")


async def test_an_administrator_says_whose_usage_it_is() -> None:
    edge = edge_with()

    unsaid = await push(edge, [EVENT], key=ADMIN_KEY)
    said = await push(edge, [EVENT], key=ADMIN_KEY, path=f"{PATH}?account=acme")
    missing = await push(edge, [EVENT], key=ADMIN_KEY, path=f"{PATH}?account=nobody")

    assert (unsaid.status, unsaid.json["errors"][0]["field"]) == (422, "query.account")
    assert (said.status, [event["account_id"] for event in told(edge)]) == (202, ["acme"])
    assert (missing.status, missing.json["code"]) == (404, "account_not_found")


async def test_an_account_pushes_for_no_other() -> None:
    edge = edge_with()

    foreign = await push(edge, [EVENT], path=f"{PATH}?account=globex")
    own = await push(edge, [EVENT], path=f"{PATH}?account=acme")

    assert (foreign.status, foreign.json["code"]) == (404, "account_not_found")
    assert own.status == 202


@pytest.mark.parametrize(
    ("body", "media_type", "status", "code"),
    [
        (b"{", BATCH, 400, "malformed_json"),
        ({}, BATCH, 422, "invalid_request"),
        ([EVENT] * (EVENTS_MAX + 1), BATCH, 422, "invalid_request"),
        (EVENT, "application/json", 415, "unsupported_media_type"),
        (EVENT, "text/plain", 415, "unsupported_media_type"),
        (b"\xff", "application/cloudevents+json", 400, "malformed_json"),
        (b" " * (1024 * 1024 + 1), BATCH, 413, "body_too_large"),
    ],
)
async def test_a_request_that_is_no_event_is_told_so(
    body: Any, media_type: str, status: int, code: str
) -> None:
    answer = await push(edge_with(), body, media_type=media_type)

    assert (answer.status, answer.json["code"]) == (status, code)


async def test_a_batch_of_a_mebibyte_is_read() -> None:
    body = json.dumps([EVENT]).encode().ljust(1024 * 1024)

    answer = await push(edge_with(), body, media_type=f"{BATCH}; charset=utf-8")

    assert answer.status == 202


async def test_an_empty_batch_asks_nobody() -> None:
    edge = edge_with()

    answer = await push(edge, [])

    assert (answer.status, answer.json, told(edge)) == (202, {"events": []}, [])


@pytest.mark.parametrize("reply", [None, lambda _: Fault(message="away"), lambda _: _answered([])])
async def test_what_may_not_be_durable_is_answered_with_503(reply: Any) -> None:
    answer = await push(edge_with(reply), [EVENT])

    assert (answer.status, answer.headers["retry-after"]) == (503, "1")


async def test_what_waits_together_travels_together_and_each_gets_its_own_answers() -> None:
    edge = edge_with()
    keys = [edge.issue("acme").text, edge.issue("other").text]

    pushing = [
        asyncio.create_task(edge.call("POST", PATH, credential=key, body=json.dumps(events), headers=HEADERS))
        for key, events in zip(keys, ([EVENT, {**EVENT, "id": "again-1"}], [EVENT]), strict=True)
    ]
    await _until_waiting(edge, 3)
    async with sending(edge):
        answers = await asyncio.gather(*pushing)

    [command] = asked(edge, RecordUsageEvents)
    assert [event["account_id"] for event in command["events"]] == ["acme", "acme", "other"]
    assert [[each["status"] for each in answer.json["events"]] for answer in answers] == [
        ["recorded", "repeated"],
        ["recorded"],
    ]


async def test_no_message_has_more_events_than_one_batch() -> None:
    edge = edge_with()
    key = edge.issue().text
    body = json.dumps([{**EVENT, "id": f"{number}"} for number in range(300)])

    pushing = [
        asyncio.create_task(edge.call("POST", PATH, credential=key, body=body, headers=HEADERS))
        for _ in range(3)
    ]
    await _until_waiting(edge, 900)
    async with sending(edge):
        await asyncio.gather(*pushing)

    assert [len(command["events"]) for command in asked(edge, RecordUsageEvents)] == [300] * 3


@pytest.mark.parametrize("line", [{"wait_seconds": 0.01}, {"waiting_max": 0}])
async def test_what_waits_too_long_or_is_too_much_is_answered_with_503(line: dict[str, Any]) -> None:
    edge = managed(event_line=line)
    key = edge.issue().text

    answer = await edge.call("POST", PATH, credential=key, body=json.dumps([EVENT]), headers=HEADERS)

    assert (answer.status, answer.json["code"]) == (503, "unavailable")


async def _until_waiting(edge: Edge, events: int) -> None:
    async with asyncio.timeout(10):
        while edge.usage_events.waiting_items < events:
            await asyncio.sleep(0)
