"""`kill -9` in mid-session: sessions go on by themselves, and no ticket is lost, doubled or unpaid."""

import secrets
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.acceptance.checks import settled
from tests.acceptance.sdk import Streaming, streaming
from tests.acceptance.system import Account, System, until
from tests.acceptance.traffic import Traffic, traffic
from tests.acceptance.wire import Payer, request

pytestmark = pytest.mark.anyio

SPEND_LIMIT_WEI = 10**16
RECOVERY_SECONDS = 20
OURS = ("signer", "signer-relay", "quota", "accounts", "metering", "edge", "discovery")
SERVERS = ("nats", "postgres")
READERS = ("metering", "quota")


@pytest.mark.parametrize("process", [*OURS, *SERVERS])
async def test_a_killed_process_costs_no_session_and_no_ticket(system: System, process: str) -> None:
    account = await system.open_account(SPEND_LIMIT_WEI)

    async with streaming(system, account) as stream, traffic(system, account) as running:
        old_pid = system.kill(process)
        await system.until_restarted(process, old_pid)
        await running.until_all_paid_again(seconds=RECOVERY_SECONDS)
        await until("a new customer can pay", lambda: _can_start(system), seconds=RECOVERY_SECONDS)
        await stream.until_paid_again(seconds=RECOVERY_SECONDS)

    await _check_books(system, account, stream, running)


async def test_a_wiped_bus_loses_no_usage_and_no_revocation(system: System) -> None:
    account, revoked = await system.open_account(SPEND_LIMIT_WEI), await system.open_account()

    async with streaming(system, account) as stream, traffic(system, account) as running:
        with _halted(system, READERS):  # what is on the bus now, they have not read
            wanted = await system.on_the_bus() + 20
            await until("payments are on the bus", lambda: _has_come_to(system, wanted), seconds=15)
            old_pid = system.kill("nats")
            _wipe(system.world.directory / "nats")
            await system.until_restarted("nats", old_pid)
        await running.until_all_paid_again(seconds=RECOVERY_SECONDS)
        await stream.until_paid_again(seconds=RECOVERY_SECONDS)

    await _check_books(system, account, stream, running)
    await system.revoke_key(revoked)
    await until("the key is refused", lambda: _is_refused(system, revoked), seconds=10)


async def test_after_all_faults_every_allowance_comes_back_and_the_pool_adds_up(system: System) -> None:
    async def nothing_is_held() -> bool:
        return await _of_all_pools(system, "held_wei") == 0

    await until("idle sessions gave back all they held", nothing_is_held, seconds=RECOVERY_SECONDS)

    assert await _of_all_pools(system, "exposure_wei") == (await system.log()).cost


async def _of_all_pools(system: System, amount: str) -> int:
    pools = (await system.call("GET", "/v1/pools")).json["pools"]
    return sum(int(pool[amount]) for pool in pools)


async def _can_start(system: System) -> bool:
    """Whether an account can be opened and pay; as an operator would, it is tried until it works."""
    body = {"account_id": f"test-{secrets.token_hex(4)}"}
    opened = await system.call("POST", "/v1/accounts", body=body)
    issued = await system.call("POST", f"/v1/accounts/{body['account_id']}/keys", body={})
    if (opened.status, issued.status) != (201, 201):
        return False
    payer = Payer(system, Account.of(issued.json))
    return (await payer.ask(request(await payer.challenge()))).status == 200


async def _check_books(system: System, account: Account, stream: Streaming, running: Traffic) -> None:
    """The orchestrator took only what is in the log, the log is what clients got, and all is metered."""
    signed = (await system.log()).of(account.account_id).tickets()
    manifest_ids = [stream.manifest_id, *running.manifest_ids]
    accepted = set().union(*[await system.accepted(manifest_id) for manifest_id in manifest_ids])
    rejected = set().union(*[await system.rejected(manifest_id) for manifest_id in manifest_ids])

    assert running.problems == []
    assert rejected == set()
    assert accepted <= signed.keys()
    assert running.receipts.keys() <= accepted
    assert running.receipts.items() <= signed.items()  # the very signatures
    await settled(system, account, seconds=RECOVERY_SECONDS)


@contextmanager
def _halted(system: System, processes: Sequence[str]) -> Iterator[None]:
    for process in processes:
        system.signal(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            system.signal(process, signal.SIGCONT)


async def _has_come_to(system: System, wanted: int) -> bool:
    return await system.on_the_bus() >= wanted


def _wipe(store: Path) -> None:
    """Take the store away in one step, before the server is back."""
    gone = store.with_suffix(".gone")
    store.rename(gone)
    shutil.rmtree(gone)


async def _is_refused(system: System, account: Account) -> bool:
    return (await Payer(system, account).ask(b"{}")).status == 401
