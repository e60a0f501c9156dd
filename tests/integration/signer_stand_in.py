"""A signer's log on the bus, whose entries the test writes and whose reader the test may hold back."""

from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg

from contracts.message import Event, LogEntry, LogPage, ReadLog, read_log_subject
from shared.clock import Clock

EPOCH = 1


class SignerStandIn:
    """Answers `cmd.signer.read_log.v1`; nothing is on the stream, as after a wiped bus."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._subscription: Any = None
        self.entries: list[LogEntry] = []
        self.readable: int | None = None  # how many entries are handed out; the head is told anyhow

    async def serve(self) -> None:
        self._subscription = await self._client.subscribe(read_log_subject("signer"), cb=self._answer)
        await self._client.flush()

    async def leave(self) -> None:
        await self._subscription.unsubscribe()
        await self._client.flush()

    def tell(self, event: Event, *, left_out: tuple[str, ...] = ()) -> None:
        """Append an entry; positions have gaps, as in a real log."""
        last = self.entries[-1].position if self.entries else 0
        fields = {
            name: value for name, value in event.model_dump(mode="json").items() if name not in left_out
        }
        self.entries.append(
            LogEntry(
                epoch=EPOCH,
                position=last + 3,
                previous_position=last,
                subject=event.subject,
                at=Clock().now(),
                event=fields,
            )
        )

    async def _answer(self, message: Msg) -> None:
        asked = ReadLog.model_validate_json(message.data)
        found = [entry for entry in self.entries[: self.readable] if entry.position > asked.after]
        head = self.entries[-1].position if self.entries else 0
        page = LogPage(epoch=EPOCH, head=head, entries=found[: asked.limit])
        await message.respond(page.model_dump_json().encode())
