"""Usage over HTTP: what is asked of metering and for whom, and how it is answered."""

import csv
import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from tests import infra
from tests.integration.edge_world import World, running_edge
from tests.integration.service_process import bus_user
from tilt.slot import Slot

pytestmark = pytest.mark.anyio

NATS_USERS = (bus_user("accounts"), bus_user("edge"))
PATH = "/v1/accounts/acme/usage"
HOUR = "2031-05-17T08:00:00Z"


@pytest.fixture(scope="module")
async def world(postgres: infra.Postgres, nats: infra.Nats, slot: Slot) -> AsyncIterator[World]:
    directory = slot.directory / "edge-usage"
    directory.mkdir(exist_ok=True)
    with postgres.database("accounts") as database:
        async with running_edge(nats, database.dsn("accounts"), slot, directory) as world:
            yield world


@pytest.fixture(scope="module")
async def acme(world: World) -> str:
    return str((await world.new_key("acme"))["api_key"])


@pytest.fixture(scope="module")
async def ann(world: World) -> str:
    return str((await world.new_key("acme", "ann"))["api_key"])


def path(**asked: object) -> str:
    return f"{PATH}?{urlencode(asked, doseq=True)}"


async def test_all_that_can_be_asked_reaches_metering(world: World, acme: str) -> None:
    asked = {
        "meter": "tokens",
        "from": HOUR,
        "to": HOUR,
        "window": "day",
        "time_zone": "Europe/Berlin",
        "group_by": ["user", "model"],
        "user_id": "ann",
        "key_id": "k",
        "app": "",
        "filter": ["model:a:b", "place:"],
        "limit": 1,
    }
    first = await world.call("GET", path(**asked), key=acme)
    second = await world.call("GET", path(**asked, cursor=first.json["next"]), key=acme)

    assert (first.status, second.status) == (200, 200)
    one, two = world.stand_ins.meters_asked[-2:]
    assert (one.meter, one.account_id, one.window, one.time_zone) == (
        "tokens",
        "acme",
        "day",
        "Europe/Berlin",
    )
    assert one.filters == {"user": "ann", "key": "k", "app": "", "model": "a:b", "place": ""}
    assert one.from_at == one.to_at == datetime(2031, 5, 17, 8, tzinfo=UTC)
    assert (one.group_by, one.limit, one.after) == (["user", "model"], 1, [])
    assert two.after == ["2031-05-17T08:00:00+00:00", "=user", "=model"]
    assert first.json["usage"] == [
        {
            "window_start": HOUR,
            "window_end": HOUR,
            "group": {"user": "=user", "model": "=model"},
            "value": "-1.500",
            "late": 2,
            "of": ["2031-03", "2031-04"],
        }
    ]


async def test_csv_has_the_same_rows_and_no_formula(world: World, acme: str) -> None:
    asked = {"meter": "tickets", "group_by": "app", "window": "day", "limit": 1}
    told = await world.call("GET", path(**asked), key=acme, headers={"Accept": "text/csv"})
    chosen = await world.call("GET", path(**asked, format="csv"), key=acme)

    assert told.headers["Content-Type"].startswith("text/csv")
    assert told.text == chosen.text
    header, row = csv.reader(io.StringIO(told.text))
    assert header == ["window_start", "window_end", "app", "value", "late", "of"]
    assert row == [HOUR, HOUR, "'=app", "-1.500", "2", "2031-03 2031-04"]
    link, rel = told.headers["Link"].split("; ")
    assert rel == 'rel="next"'
    following = await world.call("GET", link.strip("<>"), key=acme, headers={"Accept": "text/csv"})
    assert following.status == 200
    assert world.stand_ins.meters_asked[-1].after == ["2031-05-17T08:00:00+00:00", "=app"]
    assert parse_qs(urlsplit(link.strip("<>")).query)["meter"] == ["tickets"]


async def test_csv_without_a_meter(world: World, acme: str) -> None:
    told = await world.call("GET", path(group_by=["user", "key"], format="csv"), key=acme)

    header, row = csv.reader(io.StringIO(told.text))
    assert header == ["user", "key", "payments", "tickets", "cost_wei", "ev_wei", "fee_wei"]
    assert row[:4] == ["user-1", "key-1", "1", "2"]
    assert "Link" not in told.headers
    json_again = await world.call("GET", path(), key=acme, headers={"Accept": "text/csv, application/json"})
    assert json_again.json["usage"]


async def test_a_users_key_reads_its_own_users_usage_only(world: World, ann: str) -> None:
    own = await world.call("GET", path(meter="tickets"), key=ann)
    named = await world.call("GET", path(meter="tickets", user_id="ann", filter="user:bob"), key=ann)
    without = await world.call("GET", PATH, key=ann)
    other = await world.call("GET", path(meter="tickets", user_id="bob"), key=ann)

    assert (own.status, named.status, without.status) == (200, 200, 200)
    assert [asked.filters for asked in world.stand_ins.meters_asked[-2:]] == [{"user": "ann"}] * 2
    assert world.stand_ins.usage_asked[-1].filters == {"user": "ann"}
    assert (other.status, other.json["code"]) == (403, "account_key_needed")
    foreign = await world.call("GET", "/v1/accounts/other/usage", key=ann)
    assert (foreign.status, foreign.json["code"]) == (404, "account_not_found")
    assert (await world.call("GET", PATH)).status == 401


async def test_administrators_ask_about_all_and_as_of(world: World, acme: str) -> None:
    house = await world.manage("GET", f"/v1/usage?meter=tickets&account=acme&as_of={HOUR}&group_by=account")
    every = await world.manage("GET", "/v1/usage?meter=tickets")
    account = await world.call("GET", path(meter="tickets", as_of=HOUR), key=acme)

    assert (house.status, every.status) == (200, 200)
    one, two = world.stand_ins.meters_asked[-2:]
    assert (one.account_id, one.as_of) == ("acme", datetime(2031, 5, 17, 8, tzinfo=UTC))
    assert (two.account_id, two.as_of, every.json["next"]) == (None, None, None)
    assert (account.status, account.json["code"]) == (403, "administrator_needed")


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"window": "day"}, "query.window"),
        ({"time_zone": "UTC"}, "query.time_zone"),
        ({"type": "x"}, "query.type"),
        ({"type": ""}, "query.type"),
        ({"filter": "a:b"}, "query.filter"),
        ({"group_by": "teapot"}, "query.group_by"),
        ({"meter": "tickets", "window": "week"}, "query.window"),
        ({"meter": "tickets", "time_zone": "Mars Olympus"}, "query.time_zone"),
        ({"meter": "tickets", "filter": "nothing"}, "query.filter.0"),
        ({"meter": "tickets", "from": "7"}, "query.from"),
        ({"meter": "tickets", "usr_id": "ann"}, "query.usr_id"),
        ({"meter": "tickets", "account": "other"}, "query.account"),
        ({"meter": "tickets", "format": "xml"}, "query.format"),
        ({"meter": "tickets", "limit": 0}, "query.limit"),
        ({"meter": "tickets", "cursor": "W10"}, None),
        ({"meter": "tickets", "cursor": "WyJhIl0"}, "query.cursor"),
        ({"meter": "tickets", "app": "a\0"}, "query.app"),
        ({"meter": "tickets", "group_by": [f"g{number}" for number in range(9)]}, "query.group_by"),
    ],
)
async def test_a_mistake_is_named_by_its_field(
    world: World, acme: str, asked: dict[str, object], field: str | None
) -> None:
    answer = await world.call("GET", path(**asked), key=acme)

    assert answer.status == (422 if field else 200)
    assert [error["field"] for error in answer.json.get("errors", [])] == ([field] if field else [])


async def test_hours_are_closed_by_administrators(world: World, acme: str) -> None:
    body = {"until": HOUR, "reason": "invoiced"}
    closed = await world.manage("POST", f"{PATH}/close", body)
    refused = await world.call("POST", f"{PATH}/close", key=acme, body=body)
    missing = await world.manage("POST", "/v1/accounts/nobody/usage/close", body)
    unsaid = await world.manage("POST", f"{PATH}/close", {"until": HOUR})

    assert closed.json == {"account_id": "acme", "closed_until": HOUR}
    [command] = world.stand_ins.closed
    assert (command.account_id, command.reason) == ("acme", "invoiced")
    assert command.actor.startswith("admin")
    assert (refused.status, refused.json["code"]) == (403, "administrator_needed")
    assert (missing.status, missing.json["code"]) == (404, "account_not_found")
    assert [error["field"] for error in unsaid.json["errors"]] == ["body.reason"]
