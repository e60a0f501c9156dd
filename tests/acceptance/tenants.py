"""Accounts that are alike, with all that an account can have; and their books."""

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

from tests.acceptance.checks import settled
from tests.acceptance.foreign_calls import Names, query
from tests.acceptance.system import Account, Answer, System, until
from tests.acceptance.wire import SIGNER, Challenge, Paid, Payer, request

# What idle sessions and leases do by themselves, whoever calls whatever; streams are looked at by user.
# And what is told later: from where the account's own keys were used.
BY_ITSELF = (
    "session_closed",
    "allowance_freed",
    "sub_budget_held",
    "pool_",
    "stream_",
    "key_watch_opened",
    "key_networks_seen",
)
LEASE_SECONDS = 3600


@dataclass(frozen=True)
class Tenant:
    """An account that has paid, with all it has."""

    account: Account
    names: Names
    challenge: Challenge
    paid: Paid
    bound_key: Account  # of the same account, for another of its users
    revoked_key: Account
    hook_secret: str

    @property
    def secrets(self) -> list[str]:
        """What nobody else may be shown."""
        return [self.account.api_key, self.paid.payment, self.paid.state["Sig"], self.hook_secret]


async def paying_tenant(system: System, *, user: str) -> Tenant:
    """An account that has paid for this user; its id gets an ending of its own."""
    account = await system.open_account()
    token = secrets.token_hex(4)
    user_id, stream_id = f"{user}-{token}", f"stream-{token}"
    job_id, grant_id = f"job-{token}", f"grant-{token}"
    payer = Payer(system, account)
    challenge = await payer.challenge()
    headers = {"Clearinghouse-User": user_id, "Clearinghouse-Stream": stream_id}
    paid = Paid.read(await pay(system, account, request(challenge), headers))
    upfront = request(challenge, type="fixed", ManifestID=None)
    await pay(system, account, upfront, {**headers, "Idempotency-Key": job_id})
    revoked = await system.issue_key(account.account_id)
    await system.revoke_key(revoked)
    path = f"/v1/accounts/{account.account_id}"
    issued = await system.call("POST", f"{path}/keys", body={"user_id": "another-user"})
    begun = {"stream_id": stream_id, "user_id": user_id, "lease_seconds": LEASE_SECONDS}
    assert (await system.call("POST", "/v1/streams", key=account.api_key, body=begun)).status == 201
    granted = {"grant_id": grant_id, "amount_micro_usd": 7}
    assert (await system.call("POST", f"{path}/credit", body=granted)).status == 201
    await settled(system, account)
    hook = (await system.call("POST", f"{path}/hooks")).json
    metered = f"{path}/streams/{stream_id}"

    async def is_metered() -> bool:
        return (await system.call("GET", metered)).status == 200

    await until("metering has heard of the stream", is_metered, seconds=15)
    ids = (user_id, stream_id, job_id, grant_id, hook["hook_id"])
    names = Names(account.account_id, account.key_id, paid.session_id, *ids)
    return Tenant(account, names, challenge, paid, Account.of(issued.json), revoked, hook["secret"])


async def pay(system: System, account: Account, body: bytes, headers: Mapping[str, str]) -> Answer:
    return await system.send("POST", SIGNER, data=body, headers={**account.headers, **headers})


async def books(system: System, tenant: Tenant) -> dict[str, Any]:
    """All that is said of an account, and how many events are stored of it, but what time alone adds."""
    account = tenant.account
    path = f"/v1/accounts/{account.account_id}"
    limits = await system.limits(account)
    sessions = await system.sessions(account)
    return {
        "account": (await system.call("GET", path)).json,
        "keys": (await system.call("GET", f"{path}/keys")).json,
        "limits": (limits["spend_limit_wei"], limits["spent_wei"], limits["suspended"]),
        "sessions": [{**row, "closed": None, "last_at": None} for row in sessions],
        "credit": (await system.call("GET", f"{path}/credit")).json,
        "streams": [row for row in await _streams(system, account) if row["user_id"] == tenant.names.user_id],
        "hooks": (await system.call("GET", f"{path}/hooks")).json,
        "metered": (await system.call("GET", f"{path}/streams/{tenant.names.stream_id}")).json["stream"],
        "usage": (await system.call("GET", query(f"{path}/usage", group_by="user"))).json,
        "timeline": [
            entry
            for entry in await system.timeline(account, tenant.names.session_id)
            if entry["event"] != "Closed"  # it is idle
        ],
        "events": await asyncio.to_thread(_events, system.world.dsn(), account.account_id),
    }


async def _streams(system: System, account: Account) -> list[dict[str, Any]]:
    path = query("/v1/streams", account=account.account_id)
    found: list[dict[str, Any]] = (await system.call("GET", path)).json["streams"]
    return found


def _events(dsn: str, account_id: str) -> int:
    """How many events name the account, or follow one that does."""
    count = 0
    with psycopg.connect(dsn) as connection:
        for schema in ("accounts", "signer", "quota"):
            table = f"{schema}.{schema}_events"
            query = (
                f"SELECT count(*) FROM {table} WHERE topic !~ %s AND originator_id IN (SELECT"
                f" originator_id FROM {table} WHERE convert_from(state, 'UTF8') LIKE %s)"
            )
            row = connection.execute(query.encode(), ("|".join(BY_ITSELF), f'%"{account_id}"%')).fetchone()
            count += int(row[0]) if row else 0
    return count
