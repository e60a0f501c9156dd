"""`clearinghouse log export`: a file that later runs go on with, whatever happened to the one before."""

# ruff: noqa: ASYNC240 (small files, in tests)

import fcntl
import json
import tracemalloc
from pathlib import Path

import pytest

from contracts.message import LogEntry, LogPage, ReadLog
from contracts.public_log import decode, encode
from contracts.streams import PUBLISHERS
from services.cli import log_source
from services.cli.log_export import Exported, export
from services.cli.log_source import LogSource
from services.cli.running import RefusedHereError
from shared.bus import ServiceUnavailableError
from tests.public_logs import START, FakeLogs, closed, paid

pytestmark = pytest.mark.anyio

MANY = 30_000
MEMORY_BYTES_MAX = 16 * 1024 * 1024


@pytest.fixture
def logs() -> FakeLogs:
    logs = FakeLogs(*PUBLISHERS)
    for _ in range(3):
        logs.of["signer"].tell(paid())
    logs.of["quota"].tell(closed())
    return logs


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "log.jsonl"


async def run(logs: FakeLogs, file: Path, begin: str | None = None) -> Exported:
    return await export(LogSource(logs.ask_page), file, begin)


def ids(file: Path) -> list[str]:
    return [json.loads(line)["id"] for line in file.read_text().splitlines()]


async def test_a_file_is_gone_on_with(logs: FakeLogs, file: Path) -> None:
    first = await run(logs, file)
    none = await run(logs, file)
    logs.of["signer"].tell(paid())
    more = await run(logs, file)

    assert [first.events, none.events, more.events] == [4, 0, 1]
    assert ids(file) == ["quota:1:3", "signer:1:3", "signer:1:6", "signer:1:9", "signer:1:12"]
    assert file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("torn", [1, 40])
async def test_a_torn_last_line_is_written_anew(logs: FakeLogs, file: Path, torn: int) -> None:
    await run(logs, file)
    whole = file.read_bytes()
    file.write_bytes(whole[:-torn])

    await run(logs, file)

    assert file.read_bytes() == whole


async def test_what_no_line_feed_ends_is_no_line_however_long(logs: FakeLogs, file: Path) -> None:
    await run(logs, file)
    whole = file.read_bytes()
    file.write_bytes(whole + b"{" * 10_000)

    await run(logs, file)

    assert file.read_bytes() == whole


async def test_it_begins_where_it_is_told_to(logs: FakeLogs, file: Path) -> None:
    end = encode((await run(logs, file)).cursor)
    logs.of["signer"].tell(paid())
    other = file.with_name("other")

    await run(logs, other, end)
    logs.of["quota"].tell(closed())
    await run(logs, other, end)

    assert ids(other) == ["signer:1:12", "quota:1:6"]


async def test_a_file_of_an_epoch_that_is_over_stays_as_it_is(logs: FakeLogs, file: Path) -> None:
    await run(logs, file)
    before = file.read_bytes()
    logs.of["signer"].restore(1, epoch=7)
    logs.of["signer"].tell(paid())

    with pytest.raises(RefusedHereError) as refused:
        await run(logs, file)

    message = str(refused.value)
    assert refused.value.refusal.code == "log_epoch_changed"
    assert "begin another file with --from " in message
    assert file.read_bytes() == before
    other = file.with_name("other")
    await run(logs, other, message.rsplit(" ", 1)[1])
    assert ids(other) == ["signer:7:6"]


@pytest.mark.parametrize(
    "text", ["nonsense\n", "{}\n", '{"id": 1}\n'], ids=["no JSON", "no event", "something else"]
)
async def test_a_file_of_something_else_is_refused_and_kept(logs: FakeLogs, file: Path, text: str) -> None:
    file.write_text(text)

    with pytest.raises(RefusedHereError, match="line 1 is no event"):
        await run(logs, file)

    assert file.read_text() == text


async def test_a_file_with_a_line_twice_is_refused(logs: FakeLogs, file: Path) -> None:
    await run(logs, file)
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*lines, lines[-1]]))

    with pytest.raises(RefusedHereError, match="line 5 is not after"):
        await run(logs, file)


async def test_two_do_not_write_one_file(logs: FakeLogs, file: Path) -> None:
    with file.open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)

        with pytest.raises(RefusedHereError, match="another export"):
            await run(logs, file)


@pytest.mark.parametrize("begin", ["nonsense", "e30x"])
async def test_what_is_no_cursor_is_refused(logs: FakeLogs, file: Path, begin: str) -> None:
    with pytest.raises(RefusedHereError, match="--from: not a cursor"):
        await run(logs, file, begin)


async def test_a_service_that_is_away_is_waited_for_and_then_it_ends(
    logs: FakeLogs, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_source, "RETRY_SECONDS", (0.0, 0.0))
    logs.of["signer"].away = True

    with pytest.raises(ServiceUnavailableError):
        await run(logs, file)
    assert ids(file) == ["quota:1:3"]
    logs.of["signer"].away = False
    done = await run(logs, file)

    assert (done.events, ids(file)) == (3, ["quota:1:3", "signer:1:3", "signer:1:6", "signer:1:9"])


async def test_a_long_log_takes_no_more_memory_than_a_short_one(file: Path) -> None:
    """Entries are made as they are asked for."""

    async def ask_page(publisher: str, asked: ReadLog) -> LogPage:
        size = MANY if publisher == "signer" else 0
        event = closed().model_dump(mode="json")
        entries = [
            LogEntry(
                epoch=1,
                position=position,
                previous_position=position - 1,
                subject="evt.signer.session_closed.v1",
                at=START,
                event=event,
            )
            for position in range(asked.after + 1, min(asked.after + asked.limit, size) + 1)
        ]
        return LogPage(epoch=1, head=size, entries=entries)

    tracemalloc.start()
    try:
        done = await export(LogSource(ask_page), file, None)
        again = await export(LogSource(ask_page), file, None)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert (done.events, again.events) == (MANY, 0)
    assert decode(encode(again.cursor))["signer"].position == MANY
    assert peak < MEMORY_BYTES_MAX
