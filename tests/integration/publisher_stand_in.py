"""A stand-in for a service whose log others follow."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.errors import NoStreamResponseError

from contracts.message import Event, LogEntry, LogPage, ReadLog, read_log_subject

START = datetime(2026, 7, 1, 11, 59, 58, tzinfo=UTC)


class FakePublisher:
    """A publisher's log: tells its entries on the stream as a test likes, and to whoever reads the log."""

    def __init__(self, client: Client, publisher: str) -> None:
        self.publisher = publisher
        self.entries: list[LogEntry] = []
        self.asked = 0
        self._client = client

    async def serve(self) -> None:
        await self._client.subscribe(read_log_subject(self.publisher), cb=self._answer)

    def append(self, *events: Event) -> list[LogEntry]:
        """Positions have gaps, as the real log's have."""
        added = []
        for event in events:
            last = self.entries[-1].position if self.entries else 0
            added.append(
                LogEntry(
                    epoch=1,
                    position=last + 3,
                    previous_position=last,
                    subject=event.subject,
                    at=START + timedelta(milliseconds=last),
                    event=event.model_dump(mode="json"),
                )
            )
            self.entries += added[-1:]
        return added

    async def publish(self, entries: Sequence[LogEntry]) -> None:
        jetstream = self._client.jetstream()
        for entry in entries:
            with suppress(NoStreamResponseError):
                await jetstream.publish(entry.subject, entry.model_dump_json().encode(), timeout=2)

    async def _answer(self, question: Msg) -> None:
        self.asked += 1
        asked = ReadLog.model_validate_json(question.data)
        after = [entry for entry in self.entries if entry.position > asked.after]
        head = self.entries[-1].position if self.entries else 0
        page = LogPage(epoch=1, head=head, entries=after[: asked.limit])
        await question.respond(page.model_dump_json().encode())
