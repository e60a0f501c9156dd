"""KV buckets as projections: one service writes all entries, others keep a copy in memory.

A writer puts its entries under a new epoch (`<epoch>.<key>`), then `<epoch>.complete`, then names
the epoch in `heartbeat` several times a second. A reader serves the named epoch once complete. If
no heartbeat came for a second (writer away, watcher broken, store wiped) it reads the bucket anew.
"""

import asyncio
import time
from collections.abc import Mapping

import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.kv import KeyValue
from pydantic_core import from_json, to_json

log = structlog.get_logger()

HEARTBEAT_SECONDS = 0.25
STALE_SECONDS = 1.0
LOAD_SECONDS = 5.0


class BucketWriter:
    """Keeps a bucket equal to the entries it is given; rewrites it when the store was wiped."""

    def __init__(self, client: Client, bucket: str) -> None:
        self._client = client
        self._bucket = bucket
        self._entries: dict[str, bytes] = {}
        self._epoch = ""  # none: the bucket has to be written anew
        self._sequence = 0
        self._changed = asyncio.Lock()

    async def put(self, key: str, value: bytes) -> None:
        """Change one entry; NATS being away is no error, the next rewrite brings it."""
        async with self._changed:
            self._entries[key] = value
            if self._epoch:
                try:
                    await self._put(f"{self._epoch}.{key}", value)
                except (NatsError, TimeoutError) as problem:
                    log.warning("bucket_put_failed", bucket=self._bucket, problem=repr(problem))
                    self._epoch = ""

    async def run(self, entries: Mapping[str, bytes]) -> None:
        """Write all, then beat for ever; begin again under a new epoch after any failure."""
        self._entries = {**entries, **self._entries}
        while True:
            try:
                if not self._epoch:
                    await self._rewrite()
                await self._beat()
                await asyncio.sleep(HEARTBEAT_SECONDS)
            except (NatsError, TimeoutError) as problem:
                log.warning("bucket_waits", bucket=self._bucket, problem=repr(problem))
                self._epoch = ""
                await asyncio.sleep(HEARTBEAT_SECONDS)

    async def _rewrite(self) -> None:
        async with self._changed:
            store = await self._client.jetstream().key_value(self._bucket)
            old = {key.partition(".")[0] for key in await _keys(store)} - {"heartbeat"}
            epoch = str(time.time_ns())
            for key, value in self._entries.items():
                await self._put(f"{epoch}.{key}", value)
            await self._put(f"{epoch}.complete", b"{}")
            self._epoch = epoch
            await self._beat()
            for name in old:
                subject = f"$KV.{self._bucket}.{name}.>"
                await self._client.jetstream(timeout=1).purge_stream(f"KV_{self._bucket}", subject=subject)
            log.info("bucket_written", bucket=self._bucket, entries=len(self._entries))

    async def _beat(self) -> None:
        sequence = await self._put("heartbeat", to_json({"epoch": self._epoch}))
        if sequence < self._sequence:  # the store was wiped and counts from one again
            self._epoch = ""
        self._sequence = sequence

    async def _put(self, key: str, value: bytes) -> int:
        jetstream = self._client.jetstream(timeout=1)
        ack = await jetstream.publish(f"$KV.{self._bucket}.{key}", value, stream=f"KV_{self._bucket}")
        return ack.seq


class BucketReader:
    """A copy of a bucket in memory. `ready` is false until one complete epoch was read."""

    def __init__(self, client: Client, bucket: str) -> None:
        self._client = client
        self._bucket = bucket
        self._epochs: dict[str, dict[str, bytes]] = {}
        self._epoch = ""  # the one served
        self._named = ""  # the one the last heartbeat named
        self.ready = False

    def get(self, key: str) -> bytes | None:
        return self._epochs.get(self._epoch, {}).get(key)

    async def run(self) -> None:
        """Follow the bucket for ever; answer from the last complete copy meanwhile."""
        while True:
            try:
                await self._follow()
            except (NatsError, TimeoutError) as problem:
                log.warning("bucket_reload", bucket=self._bucket, problem=repr(problem))
                self.ready = False
                await asyncio.sleep(HEARTBEAT_SECONDS)

    async def _follow(self) -> None:
        store = await self._client.jetstream(timeout=1).key_value(self._bucket)
        watcher = await store.watchall()
        fresh: dict[str, dict[str, bytes]] = {}
        try:
            await self._load(watcher, fresh)
            beat_at = time.monotonic()
            while time.monotonic() - beat_at < STALE_SECONDS:
                entry = await _next(watcher, STALE_SECONDS)
                if entry is not None and self._take(entry, fresh):
                    beat_at = time.monotonic()
        finally:
            await watcher.stop()

    async def _load(self, watcher: KeyValue.KeyWatcher, fresh: dict[str, dict[str, bytes]]) -> None:
        """Take the bucket's present content; the copy is swapped in when it is complete."""
        self._named = ""
        async with asyncio.timeout(LOAD_SECONDS):
            while (entry := await watcher.updates(LOAD_SECONDS)) is not None:
                self._take(entry, fresh)
        self._epochs = fresh
        self._serve()

    def _take(self, entry: KeyValue.Entry, fresh: dict[str, dict[str, bytes]]) -> bool:
        """Apply one update to `fresh`; true for a heartbeat."""
        if entry.key == "heartbeat":
            self._named = str(from_json(entry.value or b"{}").get("epoch", ""))
            if fresh is self._epochs and self._named != self._epoch:
                self._serve()
            return True
        epoch, _, key = entry.key.partition(".")
        if entry.operation is not None or entry.value is None:  # deleted
            fresh.get(epoch, {}).pop(key, None)
        else:
            fresh.setdefault(epoch, {})[key] = entry.value
        return False

    def _serve(self) -> None:
        """Serve the named epoch if it is complete, and drop the others."""
        self.ready = "complete" in self._epochs.get(self._named, {})
        if self.ready:
            self._epoch = self._named
            for name in [name for name in self._epochs if name != self._epoch]:
                del self._epochs[name]


async def _next(watcher: KeyValue.KeyWatcher, timeout: float) -> KeyValue.Entry | None:
    try:
        entry: KeyValue.Entry | None = await watcher.updates(timeout)
        return entry
    except TimeoutError:
        return None


async def _keys(store: KeyValue) -> list[str]:
    try:
        return await store.keys()
    except NatsError:  # the library raises when there are none
        return []
