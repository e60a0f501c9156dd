"""Bent requests against the running system: a real edge, signer, quota and all they stand on.

Never a 5xx but 503, never a 404 on the wire, never silence where an answer is due, nothing signed
that the predicate forbids; and afterwards the edge and the signer are there and have not grown.
"""

import asyncio
import json
import os
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

from tests.fuzz.clients import ACCOUNTS, Clients
from tests.fuzz.http_cases import PAYMENT, WIRE, Bent, bend
from tests.fuzz.judge import Judge, state_of
from tests.fuzz.predicate import TICKETS_MAX, Allowed, Chain, Terms
from tests.fuzz.quoted import Forbidden
from tests.fuzz.released import NotAsQuotedError
from tests.fuzz.setting import Setting
from tests.fuzz.totals import Chunk, Totals
from tests.infra import own_slot
from tilt.api import call
from tilt.chain import node
from tilt.chain import world as chain_world
from tilt.chain.local_chain import LocalChain
from tilt.run import start
from tilt.supervisor import Supervisor
from tilt.world import DEPOSIT_WEI, RESERVE_WEI, Options, World

AT_ONCE = 16
DUE_WITHIN_SECONDS = 20.0  # the edge gives a slow body ten seconds, and a payment four
PATIENCE_SECONDS = 0.3  # with what may stay unanswered
PATIENT_SHARE = 0.02  # of those are waited for all the same: they have to end, too
CLOCK_SECONDS = 2.0
GROWTH_MAX_MIB = 96
WATCHED = ("edge", "signer")  # whose memory has to stay flat
STATUSES = frozenset({200, 400, 401, 402, 403, 404, 405, 408, 413, 415, 422, 429, 431, 480, 481, 482, 503})
# Clients ask for little, so that a batch never comes near the cap that go-livepeer answers with 500.
ASKED = Terms(max_ticket_ev=10**9)


class SilentError(Exception):
    """No answer came in time."""


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[bytes, bytes]
    body: bytes


@dataclass
class Target:
    """The running system, and what is known of it."""

    world: World
    chain: Chain
    keys: dict[str, bytes]
    judge: Judge
    outcomes: Counter[str] = field(default_factory=Counter)
    violations: list[dict[str, Any]] = field(default_factory=list)

    def violate(self, rule: str, detail: str, bent: Bent) -> None:
        shown = {"rule": f"HTTP: {rule}", "detail": detail[:300], "how": bent.how}
        self.violations.append({**shown, "raw": bent.raw[:8000].decode("latin-1")})


async def run_over_http(totals: Totals, chunks: int, inputs: int) -> None:
    """Start everything, run the chunks that are missing, stop everything."""
    with own_slot() as slot:
        options = Options(spend_limit_wei=10**18, unknown_per_second=0, log_level="warning")
        world = World(slot, options)
        world.prepare()
        async with Supervisor(slot.directory) as supervisor:
            await start(world, supervisor)
            target = await _target(world)
            before: dict[str, float] = {}
            for number in range(chunks):
                if not totals.has("http", number):
                    totals.add(await _run_chunk(target, totals.seed, number, inputs))
                    before = before or _resident_mib(supervisor)
            grown = {name: size - before[name] for name, size in _resident_mib(supervisor).items()}
            totals.add(_growth(totals.seed, chunks, grown))


async def _target(world: World) -> Target:
    keys, payers = {}, set()
    for account in ACCOUNTS:
        accounts = f"{world.public_url}/v1/accounts"
        await call("POST", accounts, key=world.admin_key, body={"account_id": account})
        issued = await call("POST", f"{accounts}/{account}/keys", key=world.admin_key, body={})
        keys[account] = issued["api_key"].encode()
        signed = await call("POST", f"{world.public_url}/sign-orchestrator-info", key=issued["api_key"])
        payers.add(signed["address"])
    [payer] = payers
    return Target(
        world, await asyncio.to_thread(_chain, world), keys, Judge(Terms(), bytes.fromhex(payer[2:]))
    )


def _chain(world: World) -> Chain:
    made = chain_world.load(world.chain_directory)
    assert made is not None
    chain = LocalChain(world.rpc_url, made)
    latest = chain.current_round()
    previous = chain.rounds.functions.blockHashForRound(latest.number - 1).call()
    head = int(node.request(world.rpc_url, "eth_blockNumber"), 16)
    return Chain(head, latest.number, latest.block_hash, bytes(previous), DEPOSIT_WEI, RESERVE_WEI)


async def _run_chunk(target: Target, seed: str, number: int, inputs: int) -> Chunk:
    """Requests go out some at a time; each is made when its turn comes, knowing what was answered."""
    began = time.perf_counter()
    target.outcomes, target.violations = Counter(), []
    setting = Setting("over HTTP", ASKED, target.chain)
    clients = Clients(setting, Random(f"{seed}:http:{number}"))
    left = iter(range(inputs))

    async def work() -> None:
        for _ in left:
            await _exchange(target, clients)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(work())
    await _check_alive(target)
    return Chunk(
        kind="http",
        seed=seed,
        number=number,
        inputs=inputs,
        seconds=round(time.perf_counter() - began, 3),
        cpu_seconds=0.0,
        outcomes=dict(target.outcomes),
        stricter={},
        violations=target.violations,
    )


async def _exchange(target: Target, clients: Clients) -> None:
    case = clients.case(datetime.now(UTC))
    bent = bend(case, target.keys[case.account], clients.rng)
    patient = bent.due or clients.rng.random() < PATIENT_SHARE
    sent_at = time.time()
    try:
        reply = await _send(target, bent, DUE_WITHIN_SECONDS if patient else PATIENCE_SECONDS)
    except SilentError:
        if patient:
            target.violate("no answer", f"none within {DUE_WITHIN_SECONDS:g} s", bent)
        target.outcomes["not waited for"] += 1
        return
    if reply is None:
        if bent.due:
            target.violate("cut off", "the connection ended without an answer", bent)
        target.outcomes["cut off"] += 1
        return
    target.outcomes[f"{reply.status} ({bent.how})" if reply.status >= 500 else str(reply.status)] += 1
    _judge(target, clients, bent, reply, sent_at)


async def _send(target: Target, bent: Bent, seconds: float) -> Reply | None:
    """The first answer on a connection of its own; None if it ends before one."""
    address = urlsplit(target.world.public_url)
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
            try:
                writer.write(bent.raw)
                return await _read(reader, bodiless=bent.method == b"HEAD")
            finally:
                writer.transport.abort()
    except TimeoutError:
        raise SilentError from None
    except (ConnectionError, asyncio.IncompleteReadError):
        return None


async def _read(reader: asyncio.StreamReader, *, bodiless: bool) -> Reply:
    while True:
        head = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        status = int(head[0].split(b" ")[1])
        if status >= 200:  # 100: the answer is still to come
            break
    pairs = (line.partition(b":") for line in head[1:] if line)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    length = 0 if bodiless else int(headers.get(b"content-length", b"0"))
    return Reply(status, headers, await reader.readexactly(length))


# What an answer may be


def _judge(target: Target, clients: Clients, bent: Bent, reply: Reply, sent_at: float) -> None:
    text = reply.body.decode(errors="replace")
    on_the_wire, is_json = bent.target in WIRE, reply.headers.get(b"content-type") == b"application/json"
    if reply.status not in STATUSES and not (reply.status == 500 and _over_total(target, bent, sent_at)):
        target.violate("status", f"{reply.status} {text}", bent)
    if on_the_wire and bent.due and reply.status == 404:
        target.violate("404 on the wire", text, bent)
    if on_the_wire and bent.due and bent.authorized and reply.status == 401:
        target.violate("401 with a good key", text, bent)
    if reply.status == 200 and reply.body.startswith(b'{"payment":'):
        _judge_payment(target, clients, bent, text, sent_at)
    elif bent.target == PAYMENT and is_json and bent.method != b"HEAD" and not _is_envelope(reply.body):
        target.violate("not go-livepeer's envelope", text, bent)


def _over_total(target: Target, bent: Bent, sent_at: float) -> bool:
    """Tell whether a bent quote is worth so much that a batch may go over the cap: 500, as documented."""
    try:
        allowed = _allowed(target, bent, sent_at)
    except Forbidden as forbidden:
        return forbidden.reason == "total EV too high"
    return allowed.quote.ev * TICKETS_MAX > target.judge.terms.max_total_ev


def _is_envelope(body: bytes) -> bool:
    try:
        return [*json.loads(body)] == ["error"] and [*json.loads(body)["error"]] == ["message"]
    except (ValueError, TypeError):
        return False


def _judge_payment(target: Target, clients: Clients, bent: Bent, text: str, sent_at: float) -> None:
    account = bent.case.account
    if target.judge.is_repeat(account, text):
        return
    try:
        allowed = _allowed(target, bent, sent_at)
        target.judge.take(account, text, allowed)
    except Forbidden as forbidden:
        target.violate(f"accepted: {forbidden.reason}", text, bent)
    except NotAsQuotedError as problem:
        target.violate("answer not as quoted", str(problem), bent)
    else:
        clients.learn(account, allowed, state_of(text))


def _allowed(target: Target, bent: Bent, sent_at: float) -> Allowed:
    """With what was known when it was sent; the chain may have moved by a block since."""
    if bent.body is None:
        raise Forbidden("no body that may be read")
    case, now = bent.case.with_body(bent.body), sent_at - CLOCK_SECONDS
    try:
        return target.judge.may_accept(case, target.chain, now)
    except Forbidden:
        head = int(node.request(target.world.rpc_url, "eth_blockNumber"), 16)
        return target.judge.may_accept(case, replace(target.chain, head=head), now)


# And afterwards


async def _check_alive(target: Target) -> None:
    try:
        key = target.keys[ACCOUNTS[0]].decode()
        await call("POST", f"{target.world.public_url}/sign-orchestrator-info", key=key)
    except OSError as problem:
        target.violations.append({"rule": "HTTP: no answer afterwards", "detail": repr(problem)})


def _resident_mib(supervisor: Supervisor) -> dict[str, float]:
    sizes = {}
    for name in WATCHED:
        pages = int(Path(f"/proc/{supervisor.pid(name)}/statm").read_text().split()[1])
        sizes[name] = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return sizes


def _growth(seed: str, number: int, grown: dict[str, float]) -> Chunk:
    """How much the processes grew after the first chunk, told as a chunk without inputs."""
    too_much = [
        {"rule": f"HTTP: {name} grows", "detail": f"{size:.0f} MiB"}
        for name, size in grown.items()
        if size > GROWTH_MAX_MIB
    ]
    told = {f"MiB that {name} grew by (bound: {GROWTH_MAX_MIB})": round(size) for name, size in grown.items()}
    return Chunk("growth", seed, number, 0, 0.0, 0.0, told, {}, [*too_much])
