"""Buckets: a reader is soon whole again, whatever happened to the store, its writer or the library."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from nats.aio.client import Client
from nats.js.kv import KeyValue

from shared.bucket import BucketReader, BucketWriter
from shared.bus import connect
from tests import infra
from tests.beside import running, until

pytestmark = pytest.mark.anyio

BUCKET = "things"


@pytest.fixture
async def client(nats: infra.Nats) -> AsyncIterator[Client]:
    client = await connect("admin", nats.url())
    await client.jetstream().create_key_value(bucket=BUCKET, history=1)
    yield client
    await client.jetstream().delete_key_value(BUCKET)
    await client.close()


async def test_a_reader_has_what_the_writer_has_and_what_it_puts(client: Client) -> None:
    writer, reader = BucketWriter(client, BUCKET), BucketReader(client, BUCKET)

    async with running(writer.run({"a": b"1", "b": b"2"}), reader.run()):
        await until(lambda: reader.ready)
        await writer.put("b", b"3")
        await until(lambda: reader.get("b") == b"3")

    assert reader.get("a") == b"1"
    assert reader.get("c") is None


async def test_a_new_writer_replaces_everything_and_leaves_nothing_old_in_the_store(client: Client) -> None:
    reader = BucketReader(client, BUCKET)
    async with running(reader.run()):
        async with running(BucketWriter(client, BUCKET).run({"a": b"1", "b": b"2"})):
            await until(lambda: reader.get("a") == b"1")

        async with running(BucketWriter(client, BUCKET).run({"b": b"3"})):
            await until(lambda: reader.get("b") == b"3")
            await until(lambda: reader.get("a") is None)
            keys = await _until_keys(client, 3)

    assert {key.partition(".")[2] for key in keys} == {"b", "complete", ""}


async def test_a_store_that_lost_its_last_entries_is_written_anew(client: Client) -> None:
    writer, reader = BucketWriter(client, BUCKET), BucketReader(client, BUCKET)
    async with running(writer.run({"a": b"1"}), reader.run()):
        await until(lambda: reader.ready)

        await client.jetstream().delete_key_value(BUCKET)
        await client.jetstream().create_key_value(bucket=BUCKET, history=1)
        await writer.put("a", b"2")
        await until(lambda: reader.get("a") == b"2")

    assert reader.ready


async def test_a_reader_serves_what_comes_after_it_was_told_that_it_caught_up() -> None:
    store = _Store()
    reader = BucketReader(_AClient(store), BUCKET)  # type: ignore[arg-type] # as much of one as is needed
    async with running(reader.run()):
        store.say(None)  # a purge under way makes the library say so too soon
        store.say("1.a", b"1")
        store.say("1.complete", b"{}")
        store.say("heartbeat", b'{"epoch":"1"}')

        await until(lambda: reader.ready)

    assert reader.get("a") == b"1"


async def test_an_epoch_half_written_is_not_served() -> None:
    store = _Store()
    reader = BucketReader(_AClient(store), BUCKET)  # type: ignore[arg-type] # as much of one as is needed
    async with running(reader.run()):
        for key, value in (("1.a", b"1"), ("1.complete", b"{}"), ("heartbeat", b'{"epoch":"1"}')):
            store.say(key, value)
        await until(lambda: reader.ready)

        for key, value in (("2.a", b"2"), ("heartbeat", b'{"epoch":"1"}'), ("1.b", b"5")):
            store.say(key, value)
        await until(lambda: reader.get("b") == b"5")

    assert reader.get("a") == b"1"


async def _until_keys(client: Client, count: int) -> list[str]:
    store = await client.jetstream().key_value(BUCKET)
    async with asyncio.timeout(20):
        while len(keys := await store.keys()) != count:
            await asyncio.sleep(0.01)
    return keys


class _Store:
    """A watcher of a store, which says what a test tells it to."""

    def __init__(self) -> None:
        self._updates: asyncio.Queue[KeyValue.Entry | None] = asyncio.Queue()

    def say(self, key: str | None, value: bytes = b"") -> None:
        self._updates.put_nowait(
            None if key is None else KeyValue.Entry(BUCKET, key, value, None, None, None, None)
        )

    async def watchall(self) -> "_Store":
        return self

    async def updates(self, timeout: float) -> KeyValue.Entry | None:
        return await asyncio.wait_for(self._updates.get(), timeout)

    async def stop(self) -> None:
        pass


class _AClient:
    def __init__(self, store: _Store) -> None:
        self._store = store

    def jetstream(self, **_: Any) -> "_AClient":
        return self

    async def key_value(self, _: str) -> _Store:
        return self._store


async def test_a_writer_that_was_overtaken_changes_nothing_when_it_wakes(client: Client) -> None:
    may_write = [True]
    old = BucketWriter(client, BUCKET, may_write=lambda: may_write[0])
    reader = BucketReader(client, BUCKET)
    async with running(reader.run()):
        async with running(old.run({"a": b"1"})):
            await until(lambda: reader.get("a") == b"1")
        async with running(BucketWriter(client, BUCKET).run({"a": b"2"})):
            await until(lambda: reader.get("a") == b"2")

            may_write[0] = False  # as a lease says that was lost
            await old.put("a", b"3")
            async with running(old.run({})):
                await asyncio.sleep(1)

            assert not old.written
            stored = await client.jetstream().get_last_msg(f"KV_{BUCKET}", f"$KV.{BUCKET}.*.a")
            assert stored.data == b"2"
            assert (reader.ready, reader.get("a")) == (True, b"2")
