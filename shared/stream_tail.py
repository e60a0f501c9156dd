"""What a publisher's stream still holds of what its log lost (design §5, epochs).

The stream is read message by message, as a publisher may: it has no consumer on its own stream.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence

from nats.aio.client import Client
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError
from pydantic import ValidationError

from contracts.message import CHECKSUM_HEADER, LogEntry, checksum
from contracts.streams import stream_of
from shared.log import PublicLog

CHUNK = 200
DAMAGED_MAX = 20  # messages at the end that cannot be read, before the stream counts as empty


class StreamTail:
    """The end of a service's own stream, compared with its log."""

    def __init__(self, service: str, client: Client, public_log: PublicLog) -> None:
        self._stream = stream_of(service)
        self._subject = f"evt.{service}.>"
        self._jetstream = client.jetstream()
        self._log = public_log

    async def last_lost(self) -> LogEntry | None:
        """The stream's last entry, if the log has not got it; raises NatsError if nobody knows."""
        last = await self._last_sequence()
        for sequence in range(last, max(0, last - DAMAGED_MAX), -1):
            entry = await self._get(sequence)
            if entry is not None:
                return entry if await self._lost([entry]) else None
        return None

    async def lost(self, since: int) -> AsyncIterator[list[LogEntry]]:
        """What is on the stream and not in the log, in order; `since` was surely relayed before."""
        last = await self._last_sequence()
        sequence = await self._start(last, since)
        while sequence <= last:
            if found := await self._lost(await self._chunk(sequence, last)):
                yield found
            sequence += CHUNK

    async def _start(self, last: int, since: int) -> int:
        """A place in the stream before anything lost: all around it is in the log, and old enough."""
        back = CHUNK
        while (sequence := last - back) > 1:
            chunk = await self._chunk(sequence, last)
            is_old = bool(chunk) and max(entry.position for entry in chunk) <= since
            if is_old and not await self._lost(chunk):
                return sequence
            back *= 2
        return 1

    async def _lost(self, entries: Sequence[LogEntry]) -> list[LogEntry]:
        return await asyncio.to_thread(self._log.missing, entries)

    async def _chunk(self, first: int, last: int) -> list[LogEntry]:
        sequences = range(first, min(first + CHUNK, last + 1))
        found = await asyncio.gather(*(self._get(sequence) for sequence in sequences))
        return [entry for entry in found if entry is not None]

    async def _last_sequence(self) -> int:
        try:
            message = await self._jetstream.get_last_msg(self._stream, self._subject)
        except NotFoundError:
            return 0
        return message.seq or 0

    async def _get(self, sequence: int) -> LogEntry | None:
        """None where the stream has nothing there, or nothing that is what was published."""
        try:
            message = await self._jetstream.get_msg(self._stream, sequence)
        except NotFoundError:
            return None
        return _read(message)


def _read(message: RawStreamMsg) -> LogEntry | None:
    data = message.data or b""
    told = (message.headers or {}).get(CHECKSUM_HEADER)
    if told is not None and told != checksum(data):
        return None
    try:
        return LogEntry.model_validate_json(data)
    except ValidationError:
        return None
