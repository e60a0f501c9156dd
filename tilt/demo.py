"""One real payment session: the official SDK pays the local orchestrator through the clearinghouse."""

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from livepeer_gateway.selection import reserve_session
from livepeer_gateway.token import parse_token

from tilt import api
from tilt.audit import redeemed_but_not_signed
from tilt.world import World

PAYMENTS_WANTED = 4
WINNERS_WANTED = 1
SESSION_SECONDS = 60.0
SETTLE_SECONDS = 30.0
PARAMS_LIFE_BLOCKS = 41  # an orchestrator redeems winners once their params have expired


@dataclass
class Customer:
    """An account with an API key, as an operator gets them."""

    account_id: str
    key_id: str
    api_key: str
    sdk_token: str


@dataclass
class Outcome:
    """What everybody says about the session, each for himself."""

    session_id: str = ""
    cost_wei: int = 0  # the signer's log
    payments: int = 0
    tickets: int = 0
    spent_wei: int = 0  # quota
    usage_wei: int = 0  # metering
    ev_wei: int = 0
    fee_wei: int = 0
    accepted: int = 0  # the orchestrator
    rejected: int = 0
    redeemed: list[dict[str, Any]] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)  # redeemed on the chain, and not in the signer's log
    problems: list[str] = field(default_factory=list)


async def open_account(world: World) -> Customer:
    """Open an account and issue its first key, through the API."""
    account_id = f"demo-{secrets.token_hex(4)}"
    accounts = f"{world.public_url}/v1/accounts"
    limit = str(world.options.spend_limit_wei)
    await api.call(
        "POST", accounts, key=world.admin_key, body={"account_id": account_id, "spend_limit_wei": limit}
    )
    issued = await api.call("POST", f"{accounts}/{account_id}/keys", key=world.admin_key, body={})
    return Customer(account_id, issued["key"]["key_id"], issued["api_key"], issued["sdk_token"])


def environment(world: World, customer: Customer) -> dict[str, str]:
    """What the examples of docs/limits.md and the `clearinghouse` command need, by variable."""
    return {
        "URL": world.public_url,
        "ADMIN": world.admin_key,
        "ACCOUNT": customer.account_id,
        "KEY": customer.api_key,
        "KEY_ID": customer.key_id,
        "HOOK_SECRET": world.hook_secret,
        "CLEARINGHOUSE_NATS_URL": world.nats_url("cli"),
        "CLEARINGHOUSE_KEY_PEPPER": world.slot.secret("key-pepper"),
        "CLEARINGHOUSE_HOOK_KEYS": world.hook_key,
        "CLEARINGHOUSE_PUBLIC_URL": world.public_url,
    }


async def pay(world: World, customer: Customer) -> str:
    """Run a session with the unmodified SDK until enough was paid; returns the orchestrator's id."""
    token = parse_token(customer.sdk_token)
    session = await reserve_session(
        signer_url=token["signer"],
        signer_headers=token["signer_headers"],
        discovery_url=token["discovery"],
        discovery_headers=token["discovery_headers"],
        app="demo/echo",
    )
    async with session:
        await api.until(
            f"{PAYMENTS_WANTED} payments were accepted and a winner was among them",
            lambda: _paid_enough(world, session.session_id),
            seconds=SESSION_SECONDS,
        )
    return str(session.session_id)


async def settle(world: World, customer: Customer, manifest_id: str) -> Outcome:
    """Let winners be redeemed and logs be followed, then ask everybody."""
    await api.mine(world.rpc_url, PARAMS_LIFE_BLOCKS)
    outcome = Outcome()
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        outcome = await ask_everybody(world, customer, manifest_id)
        if not outcome.problems or time.monotonic() > deadline:
            return outcome
        await asyncio.sleep(api.POLL_SECONDS)


async def ask_everybody(world: World, customer: Customer, manifest_id: str) -> Outcome:
    base, key = f"{world.public_url}/v1", customer.api_key
    account = f"{base}/accounts/{customer.account_id}"
    sessions = (await api.call("GET", f"{account}/sessions", key=key))["sessions"]
    outcome = Outcome()
    if sessions:
        outcome.session_id = sessions[0]["session_id"]
    for listed in sessions:
        session = await api.call("GET", f"{base}/sessions/{listed['session_id']}", key=key)
        outcome.cost_wei += int(session["cost_wei"])
        outcome.payments += session["payments"]
        outcome.tickets += session["tickets"]
    limits = await api.call("GET", f"{account}/limits", key=key)
    outcome.spent_wei = int(limits["spent_wei"])
    for row in (await api.call("GET", f"{account}/usage", key=key))["usage"]:
        outcome.usage_wei, outcome.ev_wei = int(row["cost_wei"]), int(row["ev_wei"])
        outcome.fee_wei = int(row["fee_wei"])
    await _ask_orchestrator(world, manifest_id, outcome)
    outcome.foreign = await asyncio.to_thread(redeemed_but_not_signed, world.dsn())
    outcome.problems = _problems(outcome)
    return outcome


async def _ask_orchestrator(world: World, manifest_id: str, outcome: Outcome) -> None:
    status = await api.call("GET", f"{world.orchestrator_url}/status")
    accepted = [ticket for ticket in status["accepted"] if ticket["manifest_id"] == manifest_id]
    outcome.accepted = len(accepted)
    outcome.rejected = sum(ticket["manifest_id"] == manifest_id for ticket in status["rejected"])
    ours = {(ticket["recipient_rand_hash"], ticket["nonce"]) for ticket in accepted}
    for winner in status["winners"]:
        known = (winner["ticket"]["recipient_rand_hash"], winner["ticket"]["sender_nonce"]) in ours
        if known and winner["redeemed_tx"]:
            outcome.redeemed.append(winner)


async def _paid_enough(world: World, manifest_id: str) -> bool:
    status = await api.call("GET", f"{world.orchestrator_url}/status")
    accepted = [ticket for ticket in status["accepted"] if ticket["manifest_id"] == manifest_id]
    ours = {(ticket["recipient_rand_hash"], ticket["nonce"]) for ticket in accepted}
    winners = sum(
        (winner["ticket"]["recipient_rand_hash"], winner["ticket"]["sender_nonce"]) in ours
        for winner in status["winners"]
    )
    return status["counters"]["payments_accepted"] >= PAYMENTS_WANTED and winners >= WINNERS_WANTED


def _problems(outcome: Outcome) -> list[str]:
    """What is not as it has to be; nothing, if all is."""
    checks = {
        "nothing was paid": outcome.payments > 0,
        "the signer's costs are not quota's spend": outcome.cost_wei == outcome.spent_wei,
        "the signer's costs are not metering's usage": outcome.cost_wei == outcome.usage_wei,
        "not every ticket was accepted": outcome.tickets == outcome.accepted and not outcome.rejected,
        "a ticket was redeemed that the signer never signed": not outcome.foreign,
        "no winner was redeemed": len(outcome.redeemed) >= WINNERS_WANTED,
    }
    return [problem for problem, fine in checks.items() if not fine]
