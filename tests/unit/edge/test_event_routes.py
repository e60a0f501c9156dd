"""`/v1/events`: who reads what of the log, in which form, and how long one waits for it."""

import asyncio
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest

from contracts.message import LogPage, Message, ReadLog, Refusal, read_log_subject
from contracts.public_log import EVENTS, Place, decode, encode
from contracts.streams import PUBLISHERS
from services.edge import event_log
from shared.bus import CommandRefusedError
from tests.public_logs import FakeLogs, closed, paid
from tests.unit.edge.edge_app import Answer, Edge
from tests.unit.edge.managing import manage, managed, send

pytestmark = pytest.mark.anyio

PATH = "/v1/events"


@pytest.fixture
def logs() -> FakeLogs:
    return FakeLogs(*PUBLISHERS)


@pytest.fixture
def edge(logs: FakeLogs) -> Edge:
    edge = managed()
    for service in PUBLISHERS:
        edge.bus.answers[read_log_subject(service)] = _answering(logs, service)
    return edge


def _answering(logs: FakeLogs, service: str) -> Callable[[dict[str, Any]], Message]:
    def answer(asked: dict[str, Any]) -> LogPage | Refusal:
        try:
            return logs.of[service].read(ReadLog.model_validate(asked))
        except CommandRefusedError as refused:
            return refused.refusal

    return answer


async def read(edge: Edge, **query: Any) -> Answer:
    return await manage(edge, "GET", f"{PATH}?{urlencode(query, doseq=True)}")


async def test_an_administrator_reads_what_all_services_told(edge: Edge, logs: FakeLogs) -> None:
    logs.of["signer"].tell(paid())
    logs.of["quota"].tell(closed("other"))

    page = (await read(edge)).json

    assert [event["id"] for event in page["events"]] == ["quota:1:3", "signer:1:3"]
    assert page["at_end"] is True
    assert page["events"][1]["data"]["cost"] == str(2**70)
    assert page["events"][0]["at"] == "2031-05-17T08:00:00Z"
    assert set(page["events"][0]) == {
        "id", "type", "version", "account_id", "at", "service", "position", "epoch", "correlation",
        "causation", "data",
    }  # fmt: skip


async def test_pages_follow_one_another(edge: Edge, logs: FakeLogs) -> None:
    for _ in range(3):
        logs.of["signer"].tell(paid())

    first = (await read(edge, limit=2)).json
    rest = (await read(edge, limit=2, after=first["next"])).json
    end = (await read(edge, after=rest["next"])).json

    assert [len(page["events"]) for page in (first, rest, end)] == [2, 1, 0]
    assert [page["at_end"] for page in (first, rest, end)] == [False, True, True]
    assert end["next"] == rest["next"]


async def test_an_account_reads_what_concerns_it_and_no_more(edge: Edge, logs: FakeLogs) -> None:
    for account in ("acme", "other"):
        logs.of["signer"].tell(paid(account))
    key = edge.issue("acme").text

    own = await send(edge, "GET", PATH, key)
    named = await send(edge, "GET", f"{PATH}?account=acme", key)
    foreign = await send(edge, "GET", f"{PATH}?account=other", key)

    assert [event["account_id"] for event in own.json["events"]] == ["acme"]
    assert own.json == named.json
    assert (foreign.status, foreign.json["code"]) == (404, "account_not_found")


async def test_a_users_key_and_nobody_read_nothing(edge: Edge) -> None:
    user, nobody = [await send(edge, "GET", PATH, key) for key in (edge.issue("acme", "ann").text, None)]

    assert (user.status, user.json["code"]) == (403, "account_key_needed")
    assert nobody.status == 401
    assert not edge.bus.asked


async def test_types_are_asked_of_those_who_tell_them(edge: Edge, logs: FakeLogs) -> None:
    logs.of["signer"].tell(paid())
    logs.of["signer"].tell(closed())

    page = (await read(edge, types=["PaymentSigned"])).json

    assert [event["type"] for event in page["events"]] == ["PaymentSigned"]
    assert {subject for subject, _ in edge.bus.asked} == {read_log_subject("signer")}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"types": "Nonsense"}, "query.types.0"),
        ({"types": "PlanSet", "account": "acme"}, "query.types"),
        ({"after": "nonsense"}, "query.after"),
        ({"after": "e30x"}, "query.after"),
        ({"limit": 501}, "query.limit"),
        ({"wait": 26}, "query.wait"),
        ({"account": "UPPER"}, "query.account"),
        ({"format": "xml"}, "query.format"),
    ],
)
async def test_what_is_wrong_is_named(edge: Edge, query: dict[str, str], field: str) -> None:
    refused = await read(edge, **query)

    assert refused.status == 422
    assert [error["field"] for error in refused.json["errors"]] == [field]


async def test_from_now_on_only_what_is_new_is_told(edge: Edge, logs: FakeLogs) -> None:
    logs.of["signer"].tell(paid())

    now = (await read(edge, after="now")).json
    logs.of["signer"].tell(paid())
    later = (await read(edge, after=now["next"])).json

    assert now["events"] == []
    assert [event["id"] for event in later["events"]] == ["signer:1:6"]


async def test_whoever_waits_is_answered_once_something_comes(edge: Edge, logs: FakeLogs) -> None:
    waiting = asyncio.create_task(read(edge, wait=25))
    while not logs.of["signer"].asked:
        await asyncio.sleep(0)
    logs.of["signer"].tell(paid())

    page = (await asyncio.wait_for(waiting, 10)).json

    assert [event["id"] for event in page["events"]] == ["signer:1:3"]


async def test_those_who_wait_for_the_same_are_answered_by_one_question(edge: Edge, logs: FakeLogs) -> None:
    pages = await asyncio.gather(*(read(edge, types="PaymentSigned") for _ in range(4)))

    assert [page.status for page in pages] == [200] * 4
    assert logs.of["signer"].asked < 4


async def test_nobody_waits_on_once_the_process_is_to_end(edge: Edge, logs: FakeLogs) -> None:
    waiting = asyncio.create_task(read(edge, wait=25))
    while not logs.of["signer"].asked:
        await asyncio.sleep(0)
    edge.event_log.close()

    assert (await asyncio.wait_for(waiting, 10)).json["at_end"] is True


async def test_a_credential_reads_a_few_answers_at_a_time(edge: Edge) -> None:
    most = event_log.READERS_PER_CREDENTIAL_MAX
    asking = [asyncio.create_task(read(edge, wait=25)) for _ in range(most + 1)]

    [refused], waiting = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
    one_more = await refused
    other = await send(edge, "GET", PATH, edge.issue("acme").text)
    edge.event_log.close()
    await asyncio.gather(*waiting)

    assert (one_more.status, one_more.json["code"]) == (429, "too_many_readers")
    assert one_more.headers["retry-after"] == "1"
    assert other.status == 200
    assert (await read(edge)).status == 200


async def test_a_page_that_finds_nothing_says_how_far_it_read(
    edge: Edge, logs: FakeLogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_log, "PAGE", 2)
    for _ in range(20):
        logs.of["signer"].tell(closed())

    page = (await read(edge, types="PaymentSigned")).json

    assert (page["events"], page["at_end"]) == ([], False)
    assert decode(page["next"])["signer"] == Place(1, 2 * event_log.SCANS_MAX * 3)


async def test_a_publisher_that_is_away_is_waited_for(edge: Edge, logs: FakeLogs) -> None:
    logs.of["signer"].tell(paid())
    logs.of["quota"].tell(closed())
    answering = edge.bus.answers[read_log_subject("signer")]
    edge.bus.answers[read_log_subject("signer")] = None

    partly = (await read(edge)).json
    away = await read(edge, after=partly["next"])
    edge.bus.answers[read_log_subject("signer")] = answering
    rest = (await read(edge, after=partly["next"])).json

    assert ([event["id"] for event in partly["events"]], partly["at_end"]) == (["quota:1:3"], False)
    assert (away.status, away.headers["retry-after"]) == (503, "1")
    assert [event["id"] for event in rest["events"]] == ["signer:1:3"]


async def test_a_reader_of_an_epoch_that_is_over_is_told_where_to_go_on(edge: Edge, logs: FakeLogs) -> None:
    log = logs.of["signer"]
    for _ in range(2):
        log.tell(paid())
    ahead = (await read(edge)).json["next"]
    log.restore(1, epoch=7)
    log.tell(paid())

    over = await read(edge, after=ahead)

    assert (over.status, over.json["code"]) == (409, "log_epoch_changed")
    assert over.headers["content-type"] == "application/problem+json"
    assert over.json["logs"] == [
        {
            "service": "signer", "epoch": 7, "began_after": 3, "head": 6, "read_epoch": 1,
            "read_position": 6,
        }
    ]  # fmt: skip
    going_on = (await read(edge, after=over.json["next"])).json
    assert [event["id"] for event in going_on["events"]] == ["signer:7:6"]


async def test_as_cloud_events_a_payment_is_a_create_signed_ticket(edge: Edge, logs: FakeLogs) -> None:
    logs.of["signer"].tell(paid())

    answer = await read(edge, format="cloudevents")

    assert answer.headers["content-type"] == "application/cloudevents-batch+json"
    assert [event["type"] for event in json.loads(answer.text)] == ["create_signed_ticket"]
    assert answer.headers["clearinghouse-at-end"] == "true"
    assert decode(answer.headers["clearinghouse-next"]) == {"signer": Place(1, 3)}


async def test_the_longest_question_is_short_enough(edge: Edge) -> None:
    longest = encode({service: Place(2**31, 2**61) for service in PUBLISHERS})

    assert (await read(edge, types=sorted(EVENTS), after=longest)).status == 503
