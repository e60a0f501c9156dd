"""BYOC jobs of the SDK: payments without state or ManifestID, and a signing route that we do not have."""

import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from livepeer_gateway.byoc import ByocJobRequest, ByocJobResponse, submit_byoc_job
from livepeer_gateway.errors import NoOrchestratorAvailableError
from livepeer_gateway.token import parse_token

from tests import infra
from tests.acceptance.scenarios.books import closed_books
from tests.acceptance.system import OPTIONS, Account, System, until
from tilt.supervisor import Supervisor
from tilt.world import World

pytestmark = pytest.mark.anyio

TLS_PORT = 8935  # where the SDK looks for gRPC, whatever the orchestrator's URL says
CLAIM_PORT = 8936  # nobody listens there
HOSTS = [f"127.0.0.{number}" for number in range(1, 255)]
CAPABILITY = "demo-tool"
FIRST_TICKETS = 30  # for the 60 seconds ahead, at the base price of a pixel
MODEL = '{"pipeline": "byoc", "name": "demo-tool", "price_per_unit": 5000000000}'
JOB_SECONDS = 20


@pytest.fixture(scope="module")
def started(processes: tuple[World, Supervisor]) -> Iterator[str]:
    """A second orchestrator, at the port that the SDK insists on; gives its URL."""
    world, _ = processes
    directory = world.directory / "byoc"
    directory.mkdir(exist_ok=True)
    with _loopback_address() as host, infra.running(_argv(world, host, directory), directory / "log"):
        yield f"http://{host}:{world.slot.port('byoc')}"


def _argv(world: World, host: str, directory: Path) -> list[str]:
    options = {
        "--host": host,
        "--port": world.slot.port("byoc"),
        "--tls-port": TLS_PORT,
        "--rpc": world.rpc_url,
        "--world": world.chain_directory / "world.json",
        "--key-file": world.orchestrator_key_path,
        "--state-dir": directory,
        "--ticket-ev-wei": OPTIONS.ticket_ev_wei,
        "--face-value-wei": OPTIONS.face_value_wei,
        "--model": MODEL,
    }
    return [
        sys.executable,
        "-m",
        "tilt.orchestrator",
        *(str(word) for pair in options.items() for word in pair),
    ]


@pytest.fixture
async def orchestrator_url(system: System, started: str) -> AsyncIterator[str]:
    async def answers() -> bool:
        return (await system.send("GET", f"{started}/discovery")).status == 200

    await until("the second orchestrator answers", answers, seconds=30)
    await system.send("POST", f"{started}/control", data=b'{"reset": true}')
    yield started
    await system.send("POST", f"{started}/control", data=b'{"reset": true}')


async def test_each_job_is_paid_for_in_a_session_of_its_own(
    system: System, account: Account, orchestrator_url: str
) -> None:
    done = [_submit(account, orchestrator_url) for _ in range(2)]

    books = await closed_books(system, account)
    [paid] = [one for one in (await _status(system, orchestrator_url))["manifests"] if one["kind"] == "byoc"]
    sessions = await system.sessions(account)
    assert [job.data for job in done] == [{"capability": CAPABILITY, "echo": {"prompt": "a heron"}}] * 2
    assert int(done[1].balance or 0) > int(done[0].balance or 0) > 0
    assert (books.totals.payments, books.totals.tickets) == (2, 2 * FIRST_TICKETS)
    assert (paid["manifest_id"], paid["tickets"]) == (CAPABILITY, 2 * FIRST_TICKETS)
    assert [row["job_type"] for row in sessions] == ["lv2v", "lv2v"]
    assert not (await _status(system, orchestrator_url))["rejected"]


async def test_jobs_are_not_signed_here_and_the_sdk_goes_on_without(system: System, account: Account) -> None:
    body = b'{"id": "1", "capability": "demo-tool", "request": "{}", "parameters": "", "timeout_seconds": 9}'

    answer = await system.send("POST", "/sign-byoc-job", data=body, headers=account.headers)

    assert answer.status == 404


async def test_a_job_that_no_limit_covers_is_not_paid_and_not_run(
    system: System, orchestrator_url: str
) -> None:
    account = await system.open_account(spend_limit_wei=OPTIONS.ticket_ev_wei)

    with pytest.raises(NoOrchestratorAvailableError, match="spend limit reached"):
        _submit(account, orchestrator_url)

    assert not (await system.log()).of(account.account_id).payments


def _submit(account: Account, orchestrator_url: str) -> ByocJobResponse:
    token = parse_token(account.sdk_token)
    return submit_byoc_job(
        ByocJobRequest(CAPABILITY, {"prompt": "a heron"}, timeout_seconds=JOB_SECONDS),
        orch_url=orchestrator_url,
        signer_url=token["signer"],
        signer_headers=token["signer_headers"],
    )


async def _status(system: System, orchestrator_url: str) -> dict[str, Any]:
    found: dict[str, Any] = (await system.send("GET", f"{orchestrator_url}/status")).json
    return found


@contextmanager
def _loopback_address() -> Iterator[str]:
    """An address whose port for gRPC is free; runs beside us keep away from it as long as we claim it."""
    with socket.socket() as claim:
        yield next(host for host in HOSTS if _is_ours(host, claim))


def _is_ours(host: str, claim: socket.socket) -> bool:
    try:
        with socket.socket() as attempt:
            attempt.bind((host, TLS_PORT))
        claim.bind((host, CLAIM_PORT))
    except OSError:
        return False
    return True
