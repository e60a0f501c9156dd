"""The whole system under test: what its operator can do to it, and what it says about itself."""

import asyncio
import json
import os
import secrets
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import aiohttp
import nats

from contracts.streams import stream_of
from tests.acceptance.signer_log import Log, read_log
from tilt import api
from tilt.supervisor import Supervisor
from tilt.world import Options, World

# A second costs a ticket, so that each payment has one; few win, as a test redeems one of its own.
OPTIONS = Options(
    ticket_ev_wei=10**11,
    face_value_wei=10**14,
    price_per_unit=10**11,
    idle_seconds=5,
    unknown_per_second=0,  # all tests come from one address, and some show hundreds of bad keys
    trusted_proxies="127.0.0.0/8",  # a test may say that it comes from elsewhere
    alarm_learning_seconds=2,
    log_level="debug",
    readers=("billing",),
)
POLL_SECONDS = 0.05
TIMEOUT = aiohttp.ClientTimeout(total=6)
SPEND_LIMIT_WEI = 10**15


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]  # whatever their case
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Account:
    """A customer, as an operator sets one up."""

    account_id: str
    key_id: str
    api_key: str
    sdk_token: str

    @classmethod
    def of(cls, issued: Mapping[str, Any]) -> Self:
        """Read what a new key is answered with."""
        key = issued["key"]
        return cls(key["account_id"], key["key_id"], issued["api_key"], issued["sdk_token"])

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api_key}"}


@dataclass(frozen=True)
class Totals:
    payments: int = 0
    tickets: int = 0
    cost: int = 0


class System:
    """The running processes, seen from outside: HTTP, the chain, and signals."""

    def __init__(self, world: World, supervisor: Supervisor, http: aiohttp.ClientSession) -> None:
        self.world = world
        self.supervisor = supervisor
        self.http = http

    # Over HTTP

    async def send(
        self,
        method: str,
        url: str,
        *,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Make one request to a whole URL, or to a path of ours."""
        whole = url if "://" in url else self.world.public_url + url
        async with self.http.request(method, whole, data=data, headers=headers, timeout=TIMEOUT) as answer:
            return Answer(answer.status, answer.headers, await answer.read())

    async def call(self, method: str, path: str, *, key: str = "", body: Any = None) -> Answer:
        """Make a request to /v1; as an administrator, unless a key is given."""
        shown = {"Authorization": f"Bearer {key or self.world.admin_key}"}
        headers = {**shown, "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        return await self.send(method, path, data=data, headers=headers)

    async def open_account(
        self, spend_limit_wei: int = SPEND_LIMIT_WEI, *, payer: str | None = None
    ) -> Account:
        account_id = f"test-{secrets.token_hex(4)}"
        body = {"account_id": account_id, "spend_limit_wei": str(spend_limit_wei), "payer": payer}
        opened = await self.call("POST", "/v1/accounts", body=body)
        assert opened.status == 201, opened
        return await self.issue_key(account_id)

    async def issue_key(self, account_id: str) -> Account:
        return Account.of((await self.call("POST", f"/v1/accounts/{account_id}/keys", body={})).json)

    async def rotate_payer(self, account: Account, payer: str) -> Account:
        """Let another payer pay for the account's next keys, and issue one."""
        path = f"/v1/accounts/{account.account_id}/payer"
        answer = await self.call("PUT", path, body={"payer": payer})
        assert answer.status == 200, answer
        return await self.issue_key(account.account_id)

    async def revoke_key(self, account: Account) -> None:
        answer = await self.call("DELETE", f"/v1/accounts/{account.account_id}/keys/{account.key_id}")
        assert answer.status == 200, answer

    async def suspend(self, account: Account) -> None:
        path = f"/v1/accounts/{account.account_id}/suspend"
        answer = await self.call("POST", path, body={"reason": "unpaid"})
        assert answer.status == 200, answer

    async def set_limit(self, account: Account, spend_limit_wei: int) -> None:
        path = f"/v1/accounts/{account.account_id}/limits"
        answer = await self.call("PUT", path, body={"spend_limit_wei": str(spend_limit_wei)})
        assert answer.status == 200, answer

    async def resume(self, account: Account) -> None:
        answer = await self.call("POST", f"/v1/accounts/{account.account_id}/resume")
        assert answer.status == 200, answer

    # What it says about an account

    async def limits(self, account: Account) -> dict[str, Any]:
        found: dict[str, Any] = (await self.call("GET", f"/v1/accounts/{account.account_id}/limits")).json
        return found

    async def held(self, account: Account) -> int:
        return int((await self.limits(account))["held_wei"])

    async def sessions(self, account: Account) -> list[dict[str, Any]]:
        answer = await self.call("GET", f"/v1/accounts/{account.account_id}/sessions?limit=500")
        found: list[dict[str, Any]] = answer.json["sessions"]
        return found

    async def timeline(self, account: Account, session_id: str) -> list[dict[str, Any]]:
        answer = await self.call("GET", f"/v1/sessions/{session_id}/timeline", key=account.api_key)
        found: list[dict[str, Any]] = answer.json["timeline"]
        return found

    async def usage(self, account: Account) -> Totals:
        answer = await self.call("GET", f"/v1/accounts/{account.account_id}/usage")
        [row] = answer.json["usage"]
        return Totals(row["payments"], row["tickets"], int(row["cost_wei"]))

    async def log(self) -> Log:
        """What the signer has on disk, read past all of its code."""
        return await asyncio.to_thread(read_log, self.world.dsn())

    # The neighbours

    async def orchestrator(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.send("GET", f"{self.world.orchestrator_url}/status")).json
        return found

    async def control_orchestrator(self, **changes: Any) -> None:
        url = f"{self.world.orchestrator_url}/control"
        answer = await self.send("POST", url, data=json.dumps(changes).encode())
        assert answer.status == 200, answer

    async def accepted(self, manifest_id: str) -> set[tuple[str, int]]:
        """The tickets the orchestrator took for a session, by rand hash and nonce."""
        return _tickets(await self.orchestrator(), "accepted", manifest_id)

    async def rejected(self, manifest_id: str) -> set[tuple[str, int]]:
        return _tickets(await self.orchestrator(), "rejected", manifest_id)

    async def mine(self, blocks: int) -> None:
        await api.mine(self.world.rpc_url, blocks)

    # Faults

    def kill(self, process: str) -> int:
        """`kill -9`, on the spot; returns the pid that is no more."""
        return self.signal(process, signal.SIGKILL)

    def signal(self, process: str, signum: signal.Signals) -> int:
        pid = self.supervisor.pid(process)
        assert pid is not None
        os.kill(pid, signum)
        return pid

    async def on_the_bus(self) -> int:
        """How many entries of the signer's log were ever put on its stream."""
        client = await nats.connect(self.world.nats_url("admin"))
        try:
            stream = await client.jetstream().stream_info(stream_of("signer"))
            return stream.state.last_seq
        finally:
            await client.close()

    async def until_restarted(self, process: str, old_pid: int) -> None:
        async def back() -> bool:
            return self.supervisor.pid(process) not in {None, old_pid}

        await until(f"{process} runs again", back, seconds=20)


def _tickets(status: Mapping[str, Any], which: str, manifest_id: str) -> set[tuple[str, int]]:
    return {
        (ticket["recipient_rand_hash"].removeprefix("0x"), ticket["nonce"])
        for ticket in status[which]
        if ticket["manifest_id"] == manifest_id
    }


async def until[R](what: str, check: Callable[[], Awaitable[R]], *, seconds: float) -> R:
    """Ask until the answer is true, and return it; a connection that breaks is no answer."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if found := await check():
                return found
        except (OSError, aiohttp.ClientError, KeyError) as problem:
            found_problem = repr(problem)
        else:
            found_problem = f"the last answer was {found!r}"
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}; {found_problem}"
        await asyncio.sleep(POLL_SECONDS)
