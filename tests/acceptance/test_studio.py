"""Livepeer Studio delivers to the whole system: hooks, time of streams, and what they cost."""

import json
import secrets
import time
from typing import Any

import pytest

from tests.acceptance.checks import settled
from tests.acceptance.system import Account, Answer, System, until
from tests.acceptance.wire import SIGNER, Paid, Payer, request
from tests.unit.edge.studio_client import body_of, signed, to_bytes

pytestmark = pytest.mark.anyio

SECONDS = 60.0


class Studio:
    """Livepeer Studio, as one of an account's hooks knows it."""

    def __init__(self, system: System, hook: dict[str, Any]) -> None:
        self.system = system
        self.hook = hook
        self.path = hook["url"].removeprefix(system.world.public_url)

    async def deliver(self, body: dict[str, Any], *, secret: str | None = None) -> Answer:
        data = to_bytes(body)
        headers = signed(secret or self.hook["secret"], data, int(body["timestamp"]))
        return await self.system.send("POST", self.path, data=data, headers=headers)

    async def tell(self, event: str, stream_id: str, at_ms: int, **stream: Any) -> Answer:
        body = body_of(_now_ms(), event=event, createdAt=at_ms, stream={"id": stream_id, **stream})
        return await self.deliver(body)


async def hooked(system: System, account: Account) -> Studio:
    added = await system.call("POST", f"/v1/accounts/{account.account_id}/hooks")
    assert added.status == 201, added
    return Studio(system, added.json)


async def stream_of(system: System, account: Account, stream_id: str) -> dict[str, Any]:
    path = f"/v1/accounts/{account.account_id}/streams/{stream_id}"
    answer = await system.call("GET", path, key=account.api_key)
    assert answer.status == 200, answer
    found: dict[str, Any] = answer.json
    return found


async def test_a_streams_time_and_what_it_cost_stand_together(system: System) -> None:
    account = await system.open_account()
    studio, stream_id, began = await hooked(system, account), _name(), _now_ms() - 90_000
    started = await studio.tell("stream.started", stream_id, began, sourceSegmentsDuration=10)
    challenge = await Payer(system, account).challenge()
    headers = {**account.headers, "Clearinghouse-Stream": stream_id}
    job = {**headers, "Idempotency-Key": _name()}
    upfront = request(challenge, type="fixed", ManifestID=None)
    for body, shown in ((request(challenge), headers), (upfront, job)):
        Paid.read(await system.send("POST", SIGNER, data=body, headers=shown))
    idle = await studio.tell("stream.idle", stream_id, began + 71_234, sourceSegmentsDuration=81.2)
    totals = await settled(system, account)

    view = await stream_of(system, account, stream_id)

    assert (started.status, idle.status) == (200, 200)
    assert view["stream"] | {"first_at": "", "last_at": ""} == {
        "stream_id": stream_id,
        "account_id": account.account_id,
        "user_id": "ann",
        "user_from": "creator_id",
        "app": "",
        "state": "idle",
        "first_at": "",
        "last_at": "",
        "elapsed_ms": 71_234,
        "source_ms": 71_200,
        "differs": False,
        "too_late": 0,
    }
    assert [run["elapsed_ms"] for run in view["runs"]] == [71_234]
    assert (view["session_count"], view["orchestrator_swaps"]) == (2, 1)
    assert (view["payments"], view["tickets"], int(view["cost_wei"])) == (2, totals.tickets, totals.cost)
    assert len(view["sessions"]) == 2


async def test_a_hook_is_rotated_and_removed(system: System) -> None:
    account = await system.open_account()
    path = f"/v1/accounts/{account.account_id}/hooks"
    studio, stream_id = await hooked(system, account), _name()
    old = studio.hook["secret"]
    rotated = (await system.call("POST", f"{path}/{studio.hook['hook_id']}/rotate")).json
    studio.hook = rotated
    both = [
        (await studio.deliver(_event(stream_id), secret=each)).status for each in (old, rotated["secret"])
    ]
    cut = (await system.call("POST", f"{path}/{rotated['hook_id']}/rotate", body={"overlap_seconds": 0})).json

    async def refused() -> bool:
        return (await studio.deliver(_event(stream_id), secret=rotated["secret"])).status == 401

    await until("the secret before is refused", refused, seconds=2)
    newest = (await studio.deliver(_event(stream_id), secret=cut["secret"])).status
    listed = (await system.call("GET", path)).json["hooks"]
    removed = await system.call("DELETE", f"{path}/{rotated['hook_id']}")
    studio.hook = cut
    gone = await studio.deliver(_event(stream_id))

    assert both == [200, 200]
    assert (newest, removed.status, gone.status) == (200, 200, 401)
    assert [hook["version"] for hook in listed] == [3]
    assert not [word for word in ("secret", old) if word in json.dumps(listed)]
    assert (await system.call("GET", path)).json["hooks"] == []
    again = await system.call("DELETE", f"{path}/{rotated['hook_id']}")
    assert again.status == 200
    missing = await system.call("POST", f"{path}/{rotated['hook_id']}/rotate")
    assert (missing.status, missing.json["code"]) == (404, "hook_not_found")


async def test_an_account_has_twenty_hooks_and_no_more(system: System) -> None:
    account = await system.open_account()
    path = f"/v1/accounts/{account.account_id}/hooks"
    added = [(await system.call("POST", path)) for _ in range(21)]

    assert [answer.status for answer in added] == [201] * 20 + [409]
    assert added[-1].json["code"] == "too_many_hooks"


async def test_a_suspended_accounts_deliveries_are_recorded(system: System) -> None:
    account = await system.open_account()
    studio, stream_id, began = await hooked(system, account), _name(), _now_ms() - 9_000
    await system.suspend(account)

    statuses = [
        (await studio.tell("stream.idle", stream_id, began + 5_000)).status,
        (await studio.tell("stream.started", stream_id, began)).status,
    ]

    path = f"/v1/accounts/{account.account_id}/streams/{stream_id}"
    assert statuses == [200, 200]
    assert (await system.call("GET", path)).json["stream"]["elapsed_ms"] == 5_000


async def test_the_same_delivery_again_counts_once_and_a_foreign_one_not_at_all(system: System) -> None:
    one, other = await system.open_account(), await system.open_account()
    studio, stranger = await hooked(system, one), await hooked(system, other)
    stream_id, now = _name(), _now_ms()
    body = body_of(now, event="stream.started", createdAt=now - 4_000, stream={"id": stream_id})

    repeated = [(await studio.deliver(body)).status for _ in range(3)]
    forged = await studio.deliver(body, secret=stranger.hook["secret"])
    stale = await studio.deliver({**body, "timestamp": now - 301_000})

    assert repeated == [200] * 3
    assert (forged.status, stale.status) == (401, 401)
    listed = await system.call("GET", f"/v1/accounts/{one.account_id}/streams", key=one.api_key)
    assert [stream["state"] for stream in listed.json["streams"]] == ["running"]
    assert (await system.call("GET", f"/v1/accounts/{other.account_id}/streams")).json["streams"] == []


async def test_nobodys_stream_is_listed_and_assigned(system: System) -> None:
    account = await system.open_account()
    studio, stream_id, began = await hooked(system, account), _name(), _now_ms() - 9_000
    nobody = {"creatorId": {"type": "unverified", "value": "ann@example.com"}}
    await studio.tell("stream.started", stream_id, began, **nobody)
    await studio.tell("stream.idle", stream_id, began + 3_000, **nobody)
    path = f"/v1/accounts/{account.account_id}/streams"
    unattributed = (await system.call("GET", f"{path}?unattributed=true", key=account.api_key)).json[
        "streams"
    ]

    assigned = await system.call(
        "PUT",
        f"{path}/{stream_id}/user",
        key=account.api_key,
        body={"user_id": "ann", "reason": "customer_request"},
    )

    assert [stream["stream_id"] for stream in unattributed] == [stream_id]
    assert (assigned.json["stream"]["user_id"], assigned.json["stream"]["user_from"]) == ("ann", "assigned")
    assert (await system.call("GET", f"{path}?unattributed=true")).json["streams"] == []
    other = await system.open_account()
    foreign = await system.call("GET", f"{path}/{stream_id}", key=other.api_key)
    assert (foreign.status, foreign.json["code"]) == (404, "account_not_found")


async def test_a_stream_of_the_api_is_metered_as_well(system: System) -> None:
    account, stream_id = await system.open_account(), _name()
    begun = {"stream_id": stream_id, "user_id": "cid", "app": "demo/echo"}
    await system.call("POST", "/v1/streams", key=account.api_key, body=begun)
    path = f"/v1/accounts/{account.account_id}/streams/{stream_id}"

    async def running() -> bool:
        return bool((await system.call("GET", path)).json["stream"]["state"] == "running")

    await until("metering has heard of it", running, seconds=SECONDS)
    await system.call("POST", f"/v1/streams/{stream_id}/end", key=account.api_key)

    async def ended() -> bool:
        return bool((await system.call("GET", path)).json["stream"]["state"] == "idle")

    await until("metering has heard of its end", ended, seconds=SECONDS)
    stream = (await stream_of(system, account, stream_id))["stream"]
    assert (stream["user_id"], stream["user_from"], stream["app"]) == ("cid", "streams", "demo/echo")
    assert stream["elapsed_ms"] > 0


def _event(stream_id: str) -> dict[str, Any]:
    return body_of(_now_ms(), stream={"id": stream_id})


def _name() -> str:
    return f"stream-{secrets.token_hex(6)}"


def _now_ms() -> int:
    return int(time.time() * 1000)
