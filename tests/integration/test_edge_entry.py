"""Who may come in, at the edge as a process: session tokens, networks, caps; nothing of them in its log."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from nats.aio.msg import Msg

from contracts.limits import RULES, LimitsView, RulesEntry, Scoped, SetLimits, scope_entry
from shared.bucket import BucketWriter
from shared.bus import connect
from tests import infra
from tests.integration.edge_world import ADMIN_KEY, PEPPER, StandIns, World, observed
from tests.integration.service_process import (
    bus_user,
    provision_accounts,
    provision_discovery,
    provision_rules,
    service,
)
from tilt.slot import Slot

pytestmark = pytest.mark.anyio

NATS_USERS = (bus_user("accounts"), bus_user("edge"))
PAY = "/generate-live-payment"
CLIENT = {"X-Forwarded-For": "203.0.113.9, 198.51.100.7"}
TOKEN_KEYS = ("5c" * 32, "6d" * 32)
GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"


class Quota:
    """Stands in for quota: what it is told to limit gets into the `rules` bucket before it answers."""

    def __init__(self, writer: BucketWriter) -> None:
        self.set: list[SetLimits] = []
        self._writer = writer

    async def put(self, scope: Scoped, **rules: Any) -> None:
        entry = RulesEntry.model_validate({"rules": rules})
        await self._writer.put(scope_entry(scope), entry.model_dump_json(exclude_defaults=True).encode())

    async def on_set_limits(self, message: Msg) -> None:
        command = SetLimits.model_validate_json(message.data)
        self.set.append(command)
        await self.put(command, **command.limits.model_dump())
        view = LimitsView(
            **command.model_dump(include=set(Scoped.model_fields)),
            plan=None,
            time_zone="UTC",
            own=command.limits,
            effective=command.limits,
            rows=[],
            sessions=0,
            streams=0,
            suspended=False,
        )
        await message.respond(view.model_dump_json().encode())


@pytest.fixture(scope="module")
async def worlds(
    postgres: infra.Postgres, nats: infra.Nats, slot: Slot
) -> AsyncIterator[tuple[World, Quota]]:
    directory = slot.directory / "edge-entry"
    directory.mkdir(exist_ok=True)
    admin = await connect("admin", nats.url())
    for provision in (provision_accounts, provision_discovery, provision_rules):
        await provision(admin)
    stand_ins = StandIns(admin)
    await stand_ins.serve("signer")
    writer = BucketWriter(admin, RULES)
    quota = Quota(writer)
    await admin.subscribe(SetLimits.subject, cb=quota.on_set_limits)
    writing = asyncio.create_task(writer.run({}))
    public_port, health_port = slot.port("edge-public"), slot.port("edge")
    settings = {
        "NATS_URL": nats.url("edge"),
        "PUBLIC_PORT": str(public_port),
        "PUBLIC_URL": f"http://127.0.0.1:{public_port}",
        "KEY_PEPPER": PEPPER,
        "ADMIN_KEY_HASHES": hashlib.sha256(ADMIN_KEY.encode()).hexdigest(),
        "TOKEN_KEYS": ",".join(TOKEN_KEYS),
        "TRUSTED_PROXIES": "127.0.0.0/8",
        "UNKNOWN_PER_SECOND": "0.001",
        "UNKNOWN_BURST": "3",
        "LOG_LEVEL": "debug",
    }
    log = directory / "edge.log"
    with postgres.database("accounts") as database:
        accounts = {
            "POSTGRES_DSN": database.dsn("accounts"),
            "NATS_URL": nats.url("accounts"),
            "CREATE_TABLES": "true",
        }
        async with (
            observed(admin),
            service("accounts", slot.port("accounts"), accounts, directory / "accounts.log"),
            service("edge", health_port, settings, log),
            aiohttp.ClientSession() as session,
        ):
            url = f"http://127.0.0.1:{health_port}"
            yield World(settings["PUBLIC_URL"], url, session, stand_ins, admin, log), quota
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    await admin.close()


async def exchange(world: World, key: str, **parameters: str) -> Any:
    body = urlencode({"grant_type": GRANT, "user_id": "ann", **parameters})
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await world.call("POST", "/v1/tokens", key=key, data=body.encode(), headers=headers)
    assert answer.status == 200, answer.text
    return answer.json


async def until(world: World, status: int, key: str, **headers: str) -> None:
    async with asyncio.timeout(10):
        while (await world.call("POST", PAY, key=key, body={}, headers=headers)).status != status:
            await asyncio.sleep(0.01)


async def new_key(world: World, account_id: str) -> Any:
    """A key that this edge knows by itself: over the cap of unknown ones nobody is asked."""
    issued = await world.new_key(account_id)
    await until(world, 200, issued["api_key"])
    return issued


async def test_a_payment_with_a_session_token_and_limits_of_its_own(worlds: tuple[World, Quota]) -> None:
    world, quota = worlds
    key = await new_key(world, "acme")

    token = await exchange(world, key["api_key"], limits=json.dumps({"spend_limit_wei": "7"}))
    paid = await world.call("POST", PAY, key=token["access_token"], body={"name": "first"})

    assert (paid.status, paid.json) == (200, {"payment": "first"})
    payment = world.stand_ins.payments[-1]
    assert (payment.key_id, payment.user_id, payment.user_bound, payment.token_id) == (
        key["key"]["key_id"],
        "ann",
        True,
        token["token_id"],
    )
    assert quota.set[-1].token_id == token["token_id"]
    assert quota.set[-1].limits.spend_limit_wei == 7


async def test_a_session_token_stops_with_its_key(worlds: tuple[World, Quota]) -> None:
    world, _ = worlds
    key = await new_key(world, "second")
    token = await exchange(world, key["api_key"])
    await until(world, 200, token["access_token"])

    await world.manage("DELETE", f"/v1/accounts/second/keys/{key['key']['key_id']}")

    await until(world, 401, token["access_token"])


async def test_rules_of_a_key_hold_as_soon_as_they_are_in_the_bucket(worlds: tuple[World, Quota]) -> None:
    world, quota = worlds
    key = await new_key(world, "third")
    scope = Scoped(account_id="third", key_id=key["key"]["key_id"])

    await quota.put(scope, networks=["198.51.100.0/24"])

    await until(world, 403, key["api_key"])
    await until(world, 200, key["api_key"], **CLIENT)
    await quota.put(scope, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    await until(world, 401, key["api_key"], **CLIENT)


async def test_whoever_has_no_key_is_capped_by_address_and_nobody_else(
    worlds: tuple[World, Quota],
) -> None:
    world, _ = worlds
    key = await new_key(world, "fourth")

    async def statuses(address: str, credential: str) -> list[int]:
        sent = {"X-Forwarded-For": address}
        return [
            (await world.call("POST", PAY, key=credential, body={}, headers=sent)).status for _ in range(5)
        ]

    assert await statuses("192.0.2.1", "nonsense") == [401, 401, 401, 429, 429]
    assert await statuses("192.0.2.1", key["api_key"]) == [200] * 5
    assert (await statuses("192.0.2.2", "nonsense"))[0] == 401


async def test_no_key_and_no_token_gets_into_the_log(worlds: tuple[World, Quota]) -> None:
    world, _ = worlds
    key = (await new_key(world, "fifth"))["api_key"]
    token = (await exchange(world, key))["access_token"]
    for credential in (key, token):
        await world.call("GET", f"/v1/{credential}?key={credential}", key=credential)
        await world.call("POST", PAY, key=credential, data=credential, headers={"Idempotency-Key": "x"})
        await world.call("POST", PAY, key=key, data="{}", headers={"Clearinghouse-User": credential})
        await world.call("POST", "/v1/tokens", key=key, body={"subject_token": credential, "limits": "{"})

    log = world.log.read_text()

    assert '"path":"/v1/tokens"' in log
    for secret in (key.split("_")[2], *token.split("."), *TOKEN_KEYS):
        assert secret not in log
