"""`/webhooks/livepeer/{hook}`: what is signed is recorded once it is durable; nothing else is."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import pytest

from contracts.hooks import HookView, hook_entry, hook_secret
from contracts.message import Fault, Message, Refusal
from contracts.webhooks_in import DELIVERIES_MAX, DeliveriesRecorded, Delivery, RecordDeliveries
from tests.unit.edge.edge_app import NOW, Answer, Edge
from tests.unit.edge.managing import asked, managed
from tests.unit.edge.studio_client import bent, body_of, signed, to_bytes

pytestmark = pytest.mark.anyio

HOOK = "h00kIdOf12Lt"
KEY, OLD_KEY = b"h" * 32, b"o" * 32
NOW_MS = int(NOW.timestamp() * 1000)
SECRET = hook_secret(KEY, HOOK, 1)
PATH = f"/webhooks/livepeer/{HOOK}"


def hooked(options: Mapping[str, Any] = MappingProxyType({}), **view: Any) -> Edge:
    edge = managed(**{"hook_keys": (KEY, OLD_KEY), **options})
    told = {"hook_id": HOOK, "account_id": "acme", "version": 1, "previous_until_at": None, "added_at": NOW}
    entry = HookView.model_validate({**told, **view})
    edge.identities.entries[hook_entry(HOOK)] = entry.model_dump_json().encode()
    edge.bus.answers[RecordDeliveries.subject] = recorded
    return edge


def recorded(command: dict[str, Any]) -> Message:
    return DeliveriesRecorded(recorded=len(command["deliveries"]), repeated=0)


@asynccontextmanager
async def sending(edge: Edge) -> AsyncIterator[None]:
    task = asyncio.create_task(edge.deliveries.run())
    try:
        yield
    finally:
        task.cancel()


async def deliver(
    edge: Edge, body: Any, *, secret: str = SECRET, at_ms: int | None = None, path: str = PATH
) -> Answer:
    data = body if isinstance(body, bytes) else to_bytes(body)
    at = at_ms if at_ms is not None else NOW_MS
    async with sending(edge):
        return await edge.call("POST", path, body=data, headers=signed(secret, data, at))


def told(edge: Edge) -> list[dict[str, Any]]:
    return [delivery for command in asked(edge, RecordDeliveries) for delivery in command["deliveries"]]


async def test_a_signed_event_is_recorded_as_it_came() -> None:
    edge = hooked()
    body = body_of(NOW_MS, stream={"lastSeen": NOW_MS - 7, "sourceSegmentsDuration": 12.3456})

    answer = await deliver(edge, body)

    [delivery] = told(edge)
    assert (answer.status, answer.json) == (200, {"recorded": True})
    assert delivery == {
        "account_id": "acme",
        "hook_id": HOOK,
        "webhook_id": body["webhookId"],
        "event_id": body["id"],
        "event": "stream.started",
        "stream_id": body["stream"]["id"],
        "created_at_ms": NOW_MS,
        "attempt_at_ms": NOW_MS,
        "received_at": "2031-05-17T08:00:00Z",
        "last_seen_ms": NOW_MS - 7,
        "is_active": True,
        "source_segments_duration_ms": 12_346,
        "user_id": "ann",
        "user_from": "creator_id",
        "body": to_bytes(body).decode(),
    }


async def test_the_older_shape_is_understood() -> None:
    edge = hooked()
    body = body_of(NOW_MS, timestamp=str(NOW_MS), createdAt=str(NOW_MS - 5))
    body["event_object"] = body.pop("stream")

    answer = await deliver(edge, body)

    assert answer.status == 200
    assert [(each["stream_id"], each["created_at_ms"]) for each in told(edge)] == [
        (body["event_object"]["id"], NOW_MS - 5)
    ]


async def test_an_event_of_no_stream_is_answered_and_not_kept() -> None:
    edge = hooked()
    body = body_of(NOW_MS, event="asset.ready")
    del body["stream"]

    answer = await deliver(edge, {**body, "event_object": {"id": "an asset"}})

    assert (answer.status, answer.json, told(edge)) == (200, {"recorded": False}, [])


@pytest.mark.parametrize(
    "header",
    [
        "",
        "v1={v1}",
        "t={t}",
        "t={t},v1=",
        "t={t},v2={v1}",
        "t={t},v1={v1}00",
        "t={t},t={t},v1={v1}",
        "t=later,v1={v1}",
        "{v1}",
        "t={t};v1={v1}",
    ],
)
async def test_what_is_not_signed_is_refused(header: str) -> None:
    edge = hooked()
    data = to_bytes(body_of(NOW_MS))
    digest = signed(SECRET, data, NOW_MS)["livepeer-signature"].rpartition("=")[2]

    answer = await edge.call(
        "POST", PATH, body=data, headers={"livepeer-signature": header.format(t=NOW_MS, v1=digest)}
    )

    assert (answer.status, answer.json["code"], told(edge)) == (401, "delivery_refused", [])


async def test_of_several_signatures_one_has_to_fit_and_others_are_ignored() -> None:
    edge = hooked()
    data = to_bytes(body_of(NOW_MS))
    digest = signed(SECRET, data, NOW_MS)["livepeer-signature"].rpartition("=")[2]
    header = f" t={NOW_MS}, v0=x, v1={'0' * 64},v1={digest.upper()},v9,,=,"

    async with sending(edge):
        answer = await edge.call("POST", PATH, body=data, headers={"livepeer-signature": header})

    assert (answer.status, len(told(edge))) == (200, 1)


async def test_the_signature_is_over_the_raw_bytes() -> None:
    edge = hooked()
    spaced = json.dumps(body_of(NOW_MS), indent=3).encode()
    headers = signed(SECRET, spaced, NOW_MS)

    as_sent = await deliver(edge, spaced)
    changed = await edge.call("POST", PATH, body=to_bytes(json.loads(spaced)), headers=headers)

    assert (as_sent.status, changed.status) == (200, 401)


async def test_a_hook_that_is_unknown_or_removed_answers_alike() -> None:
    unknown = await deliver(hooked(), body_of(NOW_MS), path="/webhooks/livepeer/a%2Fb..c")
    removed = await deliver(hooked(removed=True), body_of(NOW_MS))
    strange = await deliver(hooked(), body_of(NOW_MS), path="/webhooks/livepeer/\u00e4")

    forged = await deliver(hooked(), body_of(NOW_MS), secret="whsec_guessed")

    assert [each.status for each in (unknown, removed, strange, forged)] == [401] * 4
    assert len({each.json["detail"] for each in (unknown, removed, strange, forged)}) == 1


@pytest.mark.parametrize(
    ("away_ms", "status"), [(300_000, 200), (300_001, 401), (-300_000, 200), (-300_001, 401)]
)
async def test_a_delivery_is_fresh_for_five_minutes(away_ms: int, status: int) -> None:
    edge = hooked()
    at = NOW_MS - away_ms

    answer = await deliver(edge, body_of(NOW_MS, timestamp=at, createdAt=NOW_MS - 900_000), at_ms=at)

    assert (answer.status, len(told(edge))) == (status, int(status == 200))


async def test_the_time_of_the_header_is_that_of_the_body() -> None:
    edge = hooked()

    replayed = await deliver(edge, body_of(NOW_MS, timestamp=NOW_MS - 900_000), at_ms=NOW_MS)

    assert (replayed.status, told(edge)) == (401, [])


async def test_the_secret_before_is_valid_for_a_while_and_the_one_before_that_is_not() -> None:
    until = NOW + timedelta(seconds=9)
    edge = hooked(version=3, previous_until_at=until)
    secrets = [hook_secret(KEY, HOOK, version) for version in (3, 2, 1)]

    before = [(await deliver(edge, body_of(NOW_MS), secret=secret)).status for secret in secrets]
    edge.clock.advance(timedelta(seconds=9))
    after = [(await deliver(edge, body_of(NOW_MS), secret=secret)).status for secret in secrets]

    assert before == [200, 200, 401]
    assert after == [200, 401, 401]


async def test_secrets_of_every_key_are_valid_and_no_others() -> None:
    edge = hooked()

    old = await deliver(edge, body_of(NOW_MS), secret=hook_secret(OLD_KEY, HOOK, 1))
    foreign = await deliver(edge, body_of(NOW_MS), secret=hook_secret(b"x" * 32, HOOK, 1))
    other = await deliver(edge, body_of(NOW_MS), secret=hook_secret(KEY, "an0therH00k1", 1))

    assert [each.status for each in (old, foreign, other)] == [200, 401, 401]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"id": 7}, "body.id"),
        ({"id": "a b"}, "body.id"),
        ({"webhookId": None}, "body.webhookId"),
        ({"createdAt": -1}, "body.createdAt"),
        ({"createdAt": "2031-05-17"}, "body.createdAt"),
        ({"createdAt": 10**400}, "body.createdAt"),
        ({"timestamp": True}, "body.timestamp"),
        ({"event": "x" * 99}, "body.event"),
        ({"stream": {"id": "ann@example.com"}}, "body.stream.id"),
        ({"stream": {"lastSeen": "soon"}}, "body.stream.lastSeen"),
        ({"stream": {"sourceSegmentsDuration": -0.1}}, "body.stream.sourceSegmentsDuration"),
    ],
)
async def test_what_is_signed_and_malformed_is_named_by_its_field(
    changes: dict[str, Any], field: str
) -> None:
    edge = hooked()

    answer = await deliver(edge, body_of(NOW_MS, **changes))

    assert (answer.status, answer.json["code"]) == (400, "malformed_delivery")
    assert [error["field"] for error in answer.json["errors"]] == [field]
    assert "example.com" not in answer.text


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'"a"', b"\xff\xfe", b"{}" + b"\x00", b"[" * 5_000, b'{"id":"\\ud800"}'],
)
async def test_what_is_signed_and_no_event_is_malformed(body: bytes) -> None:
    answer = await deliver(hooked(), body)

    assert (answer.status, answer.json["code"]) == (400, "malformed_delivery")


async def test_a_body_of_a_quarter_megabyte_is_taken_and_no_more() -> None:
    edge = hooked()
    body = body_of(NOW_MS, payload="")
    room = 256 * 1024 - len(to_bytes(body))

    largest = await deliver(edge, {**body, "payload": "x" * room})
    larger = await deliver(edge, {**body, "payload": "x" * (room + 1)})

    assert (largest.status, larger.status) == (200, 413)


@pytest.mark.parametrize(
    ("creator", "tags", "user"),
    [
        ({"type": "unverified", "value": "ann"}, {"user": "bob"}, ("ann", "creator_id")),
        ("ann", {}, ("ann", "creator_id")),
        ({"value": "ann@example.com"}, {"user": "bob"}, ("bob", "user_tags")),
        ({"value": "ann@example.com"}, {"clearinghouse_user": "cid"}, ("cid", "user_tags")),
        (None, {"user": 7, "clearinghouse_user": ["x"]}, (None, None)),
        ({"value": "lpch_0123"}, None, (None, None)),
        ([], "user", (None, None)),
    ],
)
async def test_the_user_is_whom_the_stream_names_by_an_opaque_id(
    creator: object, tags: object, user: tuple[str | None, str | None]
) -> None:
    edge = hooked()

    answer = await deliver(edge, body_of(NOW_MS, stream={"creatorId": creator, "userTags": tags}))

    assert answer.status == 200
    assert [(each["user_id"], each["user_from"]) for each in told(edge)] == [user]


async def test_deliveries_that_wait_travel_together() -> None:
    edge = hooked()
    await deliver(edge, body_of(NOW_MS))
    [command] = asked(edge, RecordDeliveries)
    delivery = Delivery.model_validate(command["deliveries"][0])

    waiting = [asyncio.create_task(edge.deliveries.record([delivery], 1)) for _ in range(DELIVERIES_MAX + 1)]
    await asyncio.sleep(0)
    async with sending(edge):
        await asyncio.gather(*waiting)

    assert [len(each["deliveries"]) for each in asked(edge, RecordDeliveries)[1:]] == [DELIVERIES_MAX, 1]


@pytest.mark.parametrize(
    "answer", [None, lambda _: Fault(message="away"), lambda _: Refusal(code="bad_command", message="old")]
)
async def test_what_is_not_durable_is_asked_for_again(answer: Any) -> None:
    edge = hooked()
    edge.bus.answers[RecordDeliveries.subject] = answer

    refused = await deliver(edge, body_of(NOW_MS))

    assert (refused.status, refused.headers["retry-after"]) == (503, "5")


async def test_a_full_queue_and_one_that_stands_still_are_asked_again() -> None:
    edge = hooked({"delivery_line": {"wait_seconds": 0.05, "waiting_max": 1}})
    data = to_bytes(body_of(NOW_MS))
    headers = signed(SECRET, data, NOW_MS)

    answers = await asyncio.gather(*(edge.call("POST", PATH, body=data, headers=headers) for _ in range(3)))

    assert [answer.status for answer in answers] == [503, 503, 503]


async def test_an_edge_that_cannot_tell_answers_503_and_never_401() -> None:
    unread, keyless = hooked(), hooked({"hook_keys": ()})
    unread.identities.ready = False

    answers = [await deliver(edge, body_of(NOW_MS)) for edge in (unread, keyless)]

    assert [answer.status for answer in answers] == [503, 503]


async def test_no_header_and_no_body_make_it_fail() -> None:
    """Bent at random: whatever comes is recorded, refused or malformed."""
    edge, chance = hooked(), random.Random(20260301)
    statuses: set[int] = set()
    for _ in range(300):
        body = bent(chance, to_bytes(body_of(NOW_MS)))
        header = signed(SECRET, body, NOW_MS)["livepeer-signature"]
        if chance.random() < 0.3:
            header = bent(chance, header.encode()).decode("latin-1")
        async with sending(edge):
            answer = await edge.call("POST", PATH, body=body, headers={"livepeer-signature": header})
        statuses.add(answer.status)

    assert statuses == {200, 400, 401}
