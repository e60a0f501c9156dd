"""`clearinghouse log forward`: the log as CloudEvents, posted to whoever meters and bills from them.

Each batch is sent until it is taken, and only then is the position written: nothing is lost, and
after a crash the last batch comes again, with the same ids.
"""

import asyncio
import fcntl
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import batched
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
from pydantic import SecretStr
from pydantic_core import to_json

from contracts.public_log import Cursor, PublicEvent, Wanted, cursor_after, encode
from services.cli.log_source import POLL_SECONDS, LogSource, epoch_over
from services.cli.running import RefusedHereError
from shared.cloud_events import BATCH_MEDIA_TYPE, batch
from shared.log_reader import EpochOverError

BATCH_MAX = 100
ANSWER_BYTES_MAX = 2_000  # of a refusal, to show
TIMEOUT = aiohttp.ClientTimeout(total=10)
RETRY_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)  # the last again and again
REFUSED, SERVER_FAULT = 400, 500
TRY_AGAIN = frozenset({408, 425, 429})  # of those that refuse
MODE = 0o600


class NotTakenError(Exception):
    """The receiver did not take a batch now; it may later."""


@dataclass(frozen=True)
class Receiver:
    """Where batches go. `header` is one header with its value, as `Authorization: Bearer …`."""

    url: str
    header: SecretStr | None = None

    def headers(self) -> dict[str, str]:
        named: dict[str, str] = {}
        if self.header is not None:
            name, colon, value = self.header.get_secret_value().partition(":")
            if not colon or not name.strip() or not value.strip():
                raise RefusedHereError("bad_setting", "CLEARINGHOUSE_FORWARD_HEADER: must be `Name: value`")
            named = {name.strip(): value.strip()}
        return {"Content-Type": BATCH_MEDIA_TYPE, **named}


def receiver_of(url: str, header: SecretStr | None) -> Receiver:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise RefusedHereError("bad_url", "--to: must be http(s)://host[:port]/path")
    return Receiver(url, header)


async def forward(
    source: LogSource, receiver: Receiver, position: Path, wanted: Wanted, begin: str | None
) -> None:
    """Post what there is, and go on with what comes, until told to stop."""
    headers = receiver.headers()
    with _locked(position) as kept:
        cursor = await source.start(kept or begin)
        async with aiohttp.ClientSession(headers=headers, timeout=TIMEOUT) as http:
            while True:
                try:
                    reading = await source.read(cursor, wanted)
                except EpochOverError as over:
                    raise epoch_over(over, f"remove {position} and go on with") from None
                for events in batched(reading.events, BATCH_MAX):
                    await _deliver(http, receiver.url, events)
                    cursor = {**cursor, **cursor_after(events)}
                    _keep(position, cursor)
                if reading.cursor != cursor:
                    cursor = reading.cursor
                    _keep(position, cursor)
                if reading.at_end:
                    await asyncio.sleep(POLL_SECONDS)


@contextmanager
def _locked(position: Path) -> Iterator[str]:
    """What the file says, while no other process forwards from it."""
    try:
        handle = os.open(position.with_name(position.name + ".lock"), os.O_RDWR | os.O_CREAT, MODE)
    except OSError as problem:
        raise RefusedHereError("bad_file", f"--position: {problem.strerror}: {position}") from None
    with os.fdopen(handle) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RefusedHereError("file_in_use", f"--position: another process uses {position}") from None
        yield position.read_text().strip() if position.exists() else ""


def _keep(position: Path, cursor: Cursor) -> None:
    """Write it beside and move it there, so that a crash leaves the old one or the new one."""
    beside = position.with_name(position.name + ".new")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, MODE), "w") as file:
        file.write(encode(cursor) + "\n")
        file.flush()
        os.fsync(file.fileno())
    beside.replace(position)
    directory = os.open(position.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


async def _deliver(http: aiohttp.ClientSession, url: str, events: Sequence[PublicEvent]) -> None:
    """Post a batch until it is taken. Raises RefusedHereError if it is not to be sent again."""
    body = to_json(batch(events))
    tries = 0
    while True:
        try:
            await _post(http, url, body)
            return
        except (NotTakenError, aiohttp.ClientError, TimeoutError) as problem:
            pause = RETRY_SECONDS[min(tries, len(RETRY_SECONDS) - 1)]
            sys.stderr.write(f"not taken, again in {pause:g} s: {problem or type(problem).__name__}\n")
            tries += 1
            await asyncio.sleep(pause)


async def _post(http: aiohttp.ClientSession, url: str, body: bytes) -> None:
    async with http.post(url, data=body, allow_redirects=False) as answer:
        if answer.ok and answer.status < 300:  # noqa: PLR2004 (success)
            return
        said = (await answer.content.read(ANSWER_BYTES_MAX)).decode(errors="replace")
        told = f"{answer.status}: {' '.join(said.split())}"
        if answer.status >= SERVER_FAULT or answer.status in TRY_AGAIN:
            raise NotTakenError(told)
        raise RefusedHereError("not_taken", f"the receiver refuses a batch for good: {told}")
