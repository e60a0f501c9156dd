"""The log for readers over HTTP: each waits for what comes next, and they share what is asked for them.

Payments pass through the same process, so all of it is bounded: how many read at a time, how many
of one credential, how much is read over for one request, and how long it waits.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial

from nats.aio.client import Client

from contracts.message import LogPage, ReadLog, read_log_subject
from contracts.public_log import Cursor, Reading, Wanted
from shared.bus import ask
from shared.log_reader import LogReader

READERS_MAX = 64  # of this process, those that wait included
READERS_PER_CREDENTIAL_MAX = 4
READS_AT_ONCE_MAX = 4
PAGE = 200  # entries of one log; reading them takes some 4 ms, for which payments wait
SCANS_MAX = 6  # pages of each log, read over for one request that finds nothing in them
GROWTH = 4  # of such pages, from one to the next: the first is for those who find at once
POLL_SECONDS = 0.5
WAIT_SECONDS_MAX = 25

# Whether the client has hung up.
type IsGone = Callable[[], Awaitable[bool]]


class TooManyReaders(Exception):  # noqa: N818 (a refusal is an answer, not an error)
    """This credential, or all together, read as many answers at once as there may be."""


class EventLog:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._reader = LogReader(self._ask_once)
        self._readers: Counter[str] = Counter()
        self._reads = asyncio.Semaphore(READS_AT_ONCE_MAX)
        self._asked: dict[tuple[str, ReadLog], asyncio.Task[LogPage]] = {}
        self._closing = asyncio.Event()

    def close(self) -> None:
        """Let nobody wait any longer: the process is about to end."""
        self._closing.set()

    async def ends(self) -> Cursor:
        return await self._reader.ends()

    async def read(
        self, reader: str, cursor: Cursor, wanted: Wanted, limit: int, *, wait_seconds: float, is_gone: IsGone
    ) -> Reading:
        """Read on from the cursor; if there is nothing, wait for it so long, or until the client is gone.

        `reader` is the credential it is counted for. Raises TooManyReaders, EpochOverError and
        ServiceUnavailableError.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_seconds
        with self._admitted(reader):
            while True:
                reading = await self._scan(cursor, wanted, limit)
                if reading.events or not reading.at_end:
                    return reading
                left = deadline - loop.time()
                if left <= 0 or self._closing.is_set() or await is_gone():
                    return reading
                cursor = reading.cursor
                # Whoever waits asks at the same moments, so that one question does for all.
                await self._pause(min(left, POLL_SECONDS - loop.time() % POLL_SECONDS))

    @contextmanager
    def _admitted(self, reader: str) -> Iterator[None]:
        if self._readers.total() >= READERS_MAX or self._readers[reader] >= READERS_PER_CREDENTIAL_MAX:
            raise TooManyReaders
        self._readers[reader] += 1
        try:
            yield
        finally:
            self._readers[reader] -= 1
            if not self._readers[reader]:
                del self._readers[reader]

    async def _scan(self, cursor: Cursor, wanted: Wanted, limit: int) -> Reading:
        for scan in range(SCANS_MAX):
            size = min(PAGE, limit * GROWTH**scan)
            async with self._reads:
                reading = await self._reader.read(cursor, wanted, limit, size=size)
            if reading.events or reading.at_end:
                break
            cursor = reading.cursor
        return reading

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._closing.wait(), seconds)
        except TimeoutError:
            return

    async def _ask_once(self, publisher: str, asked: ReadLog) -> LogPage:
        """Ask a publisher; whoever asks for the same meanwhile gets the same answer."""
        question = (publisher, asked)
        task = self._asked.get(question)
        if task is None:
            asking = ask(self._client, asked, LogPage, subject=read_log_subject(publisher))
            task = self._asked[question] = asyncio.create_task(asking)
            task.add_done_callback(partial(self._answered, question))
        return await asyncio.shield(task)

    def _answered(self, question: tuple[str, ReadLog], task: asyncio.Task[LogPage]) -> None:
        del self._asked[question]
        if not task.cancelled():
            task.exception()  # seen, even where nobody waits for it any more
