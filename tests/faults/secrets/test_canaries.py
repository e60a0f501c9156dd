"""Secrets and mail addresses are planted wherever a client, an operator or a crash could let them out.

Then every output is searched: logs, metrics, the bus, both servers' stores, answers, command lines.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from tests.acceptance.checks import settled
from tests.acceptance.system import Account, Answer, System, until
from tests.faults.secrets import outputs, requests, search
from tests.faults.secrets.canaries import API_KEY, Canaries, needles
from tests.faults.secrets.crashes import Crash, crashes
from tilt.supervisor import Supervisor
from tilt.world import World

pytestmark = pytest.mark.anyio

SLICE = (  # of the crashes
    "pepper too short",
    "session token key that is none",
    "keystore password wrong",
    "PostgreSQL password wrong",
)
OURS = ("edge", "signer", "quota")  # are killed in the middle of it

# Where a client's own words may pass, but no secret: in what he asks, and in what he is answered.
TRANSPORT = ("cmd.signer.generate_payments.v1", "cmd.signer.read_session.v1", "cmd.metering.", "_INBOX_edge")


@dataclass
class Played:
    """What was done in a world, and all that it let out meanwhile."""

    canaries: Canaries
    account: Account
    answers: list[Answer]
    bus: list[outputs.Output]
    crashed: list[tuple[Crash, bytes]]


@pytest.fixture
async def system(processes: tuple[World, Supervisor]) -> AsyncIterator[System]:
    async with orchestrators_trusted() as http:
        yield System(*processes, http)


def orchestrators_trusted() -> aiohttp.ClientSession:
    """Orchestrators sign their certificates themselves; no client of theirs looks at them."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False))


@pytest.fixture(scope="module")
def played(processes: tuple[World, Supervisor], tmp_path_factory: pytest.TempPathFactory) -> Played:
    async def once() -> Played:
        async with orchestrators_trusted() as http:
            return await play(System(*processes, http), tmp_path_factory.mktemp("crashes"))

    return asyncio.run(once())


async def play(system: System, directory: Path) -> Played:
    canaries = Canaries.of_slot(system.world.directory)
    account = await system.open_account()
    canaries.add_key(account.account_id, account.api_key, account.sdk_token)
    every = crashes(system.world, directory, canaries)
    chosen = every if os.environ.get("CANARIES") == "all" else [one for one in every if one.name in SLICE]
    two_at_once = asyncio.Semaphore(2)

    async def run(crash: Crash) -> bytes:
        async with two_at_once:
            return await crash.run()

    async with outputs.everything_on_the_bus(system) as bus:
        running = [asyncio.create_task(run(crash)) for crash in chosen]
        token = await requests.exchange(system, account, canaries)
        answers = [answer async for answer in requests.all_of_them(system, account, token, canaries)]
        for process in OURS:
            await system.until_restarted(process, system.signal(process, signal.SIGABRT))
        await settled(system, account, seconds=30)
        crashed = list(zip(chosen, await asyncio.gather(*running), strict=True))
    return Played(canaries, account, answers, bus, crashed)


def everything(canaries: Canaries) -> dict[str, str]:
    return {**canaries.secret, **canaries.personal}


async def test_no_file_of_the_world_has_a_secret(system: System, played: Played) -> None:
    found = search.in_files(outputs.files(system.world.directory), everything(played.canaries))

    assert not found


async def test_no_row_and_no_stored_event_has_a_secret(system: System, played: Played) -> None:
    rows = await asyncio.to_thread(lambda: list(outputs.stored(system.world.dsn())))

    assert len(rows) > 50
    assert not search.in_outputs(rows, everything(played.canaries))


async def test_no_metric_has_a_secret(system: System, played: Played) -> None:
    told = await until("all processes tell their metrics", lambda: outputs.metrics(system), seconds=60)

    assert all(b"python_info" in data for _, data in told)
    assert not search.in_outputs(told, everything(played.canaries))


def test_nothing_on_the_bus_has_a_secret(played: Played) -> None:
    bodies = [(subject, data) for subject, data in played.bus if subject.startswith(TRANSPORT)]
    others = [(subject, data) for subject, data in played.bus if not subject.startswith(TRANSPORT)]

    assert bodies
    assert len(others) > 100
    assert not search.in_outputs(others, everything(played.canaries))
    assert not search.in_outputs(bodies, played.canaries.secret)


def test_no_answer_repeats_a_secret(played: Played) -> None:
    """A client may be told his own words again, but for the credential he showed."""
    answers = [
        (f"{answer.status}", answer.body + str(dict(answer.headers)).encode()) for answer in played.answers
    ]
    statuses = {answer.status for answer in played.answers}

    assert statuses >= {200, 400, 401, 403, 404, 405, 413, 415, 422}
    assert not {status for status in statuses if status >= 500}
    assert not search.in_outputs(answers, played.canaries.secret)


def test_no_command_line_has_a_secret(played: Played) -> None:
    assert not search.in_outputs(outputs.command_lines(), everything(played.canaries))


def test_a_process_that_cannot_start_says_why_and_no_secret(played: Played) -> None:
    for crash, printed in played.crashed:
        assert crash.says.encode() in printed, (crash.name, printed[-500:])
    printed_by_name = [(crash.name, printed) for crash, printed in played.crashed]
    assert not search.in_outputs(printed_by_name, everything(played.canaries))


def test_no_process_of_ours_leaves_a_core_dump(processes: tuple[World, Supervisor], played: Played) -> None:
    assert played.crashed
    for process in outputs.OURS:
        limits = Path(f"/proc/{processes[1].pid(process)}/limits").read_text()
        [line] = [line for line in limits.splitlines() if line.startswith("Max core file size")]
        assert line.split()[-3:-1] == ["0", "0"], process


def test_only_their_owner_may_read_the_files_with_secrets(
    processes: tuple[World, Supervisor], played: Played
) -> None:
    kept = outputs.kept_files(processes[0].directory)

    assert len(kept) >= 4
    assert not [path for path in kept if path.stat().st_mode & 0o077]
    assert search.in_files(kept, played.canaries.secret)  # they do have them: the search finds what is there


def test_the_search_finds_a_secret_however_it_is_written(played: Played, tmp_path: Path) -> None:
    for number, needle in enumerate(sorted(needles(played.canaries.secret))[::7]):
        (tmp_path / str(number)).write_bytes(b"\x00before" + needle + b"after\n")

    found = search.in_files(sorted(tmp_path.iterdir()), played.canaries.secret)

    assert {path for _, path in found} == set(tmp_path.iterdir())
    assert API_KEY.search(played.account.api_key.encode())
