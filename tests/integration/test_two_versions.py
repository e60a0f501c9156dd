"""A reader that meets an event of a version it does not know waits for a release of it that does.

On real NATS and PostgreSQL: the entries are on the stream, and what was applied is in the store.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from contracts.message import LogEntry, LogPage, ReadLog, Refusal, read_log_subject
from contracts.signer import PaymentRefused, PaymentSigned
from contracts.streams import CONSUMERS, stream_of
from services.provisioner import bus
from services.provisioner.settings import ProvisionerSettings
from shared.bus import connect
from shared.inbox import Inbox
from shared.positions import Positions
from shared.store import Effect, NamedLog, postgres_env
from tests import infra
from tests.beside import until
from tests.integration.service_process import bus_user

pytestmark = pytest.mark.anyio

NATS_USERS = (bus_user("metering"), bus_user("signer"))
AT = datetime(2026, 7, 1, 12, tzinfo=UTC)
V1, V2 = PaymentSigned.subject, PaymentSigned.subject.replace(".v1", ".v2")
SECONDS = 30
[CONSUMER] = [each for each in CONSUMERS if each.service == "metering" and each.publisher == "signer"]


def entry(position: int, subject: str) -> LogEntry:
    return LogEntry(
        epoch=1, position=position, previous_position=position - 1, subject=subject, at=AT, event={}
    )


@dataclass
class World:
    """A signer's log that is told on the stream, and a reader's store."""

    signer: Client
    reader: Client
    application: NamedLog
    dsn: str
    entries: list[LogEntry]
    refuses: bool = False  # as a release that does not know the question

    async def tell(self, *subjects: str) -> None:
        for subject in subjects:
            told = entry(len(self.entries) + 1, subject)
            self.entries.append(told)
            await self.signer.jetstream().publish(subject, told.model_dump_json().encode(), timeout=5)

    async def answer(self, question: Msg) -> None:
        if self.refuses:
            refusal = Refusal(code="bad_command", message="unknown")
            await question.respond(refusal.model_dump_json().encode())
            return
        after = ReadLog.model_validate_json(question.data).after
        following = [each for each in self.entries if each.position > after]
        page = LogPage(epoch=1, head=len(self.entries), entries=following)
        await question.respond(page.model_dump_json().encode())

    @asynccontextmanager
    async def following(self, *reads: str) -> AsyncIterator[list[int]]:
        """Run a reader that knows these subjects; gives the positions it applies."""
        applied: list[int] = []

        def apply(entries: Sequence[LogEntry], done: Effect) -> None:
            self.application.recorder.insert_events([], effects=[done])
            applied.extend(each.position for each in entries)

        inbox = Inbox(CONSUMER, self.reader, self.application, apply, reads)
        running = asyncio.create_task(inbox.run())
        try:
            yield applied
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(query.encode()).fetchall()

    def position(self) -> object:
        return next((row[0] for row in self.rows("SELECT position FROM metering.positions")), 0)


@pytest.fixture
async def world(database: Callable[..., infra.Database], nats: infra.Nats) -> AsyncIterator[World]:
    admin = await connect("admin", nats.url())
    settings = ProvisionerSettings(nats_url=nats.url(), http_port=0, max_bytes=64 * 1024**2)
    await bus.ensure(admin, settings)
    await admin.jetstream().purge_stream(stream_of("signer"))
    signer = await connect("signer", nats.url("signer"))
    reader = await connect("metering", nats.url("metering"))
    dsn = database("metering").dsn("metering")
    application = NamedLog("metering", postgres_env(dsn, "metering", create_tables=True))
    Positions(application).create_tables()
    made = World(signer, reader, application, dsn, [])
    await signer.subscribe(read_log_subject("signer"), cb=made.answer)
    yield made
    application.close()
    for client in (admin, signer, reader):
        await client.close()


async def test_an_unknown_version_waits_and_the_release_that_knows_it_goes_on(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    await world.tell(V1, V1, PaymentRefused.subject)

    async with world.following(V1) as applied:
        await until(lambda: world.position() == 3)
        await world.tell(V2, V1)
        await until(lambda: "newer than this reader" in capsys.readouterr().out)

        assert applied == [1, 2]
        assert world.position() == 3
        assert world.rows("SELECT * FROM metering.dead_letters") == []

    async with world.following(V1, V2) as applied:
        await until(lambda: world.position() == 5)

        assert applied == [4, 5]
        assert world.rows("SELECT * FROM metering.dead_letters") == []


async def test_an_event_of_another_kind_is_none_of_the_readers_business(world: World) -> None:
    await world.tell(V1, "evt.signer.something_new.v1", "evt.signer.payment_refused.v2", V1)

    async with world.following(V1) as applied:
        await until(lambda: world.position() == 4)

        assert applied == [1, 4]


async def test_a_publisher_that_does_not_know_the_question_is_waited_for(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.refuses = True
    world.entries += [entry(1, V1)]  # not on the stream: it has to be asked for

    async with world.following(V1) as applied:
        await until(lambda: "CommandRefusedError" in capsys.readouterr().out)
        assert applied == []
        world.refuses = False
        await until(lambda: world.position() == 1)

        assert applied == [1]
