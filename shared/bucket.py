"""KV buckets as projections: one service writes all entries, others keep a copy in memory.

A writer puts its entries under a new epoch (`<epoch>.<key>`), then `<epoch>.complete`, then names
the epoch in `heartbeat` several times a second. A reader serves the named epoch once complete. If
no heartbeat came for a second (writer away, watcher broken, store wiped) it reads the bucket anew.
Whatever was put before a heartbeat comes before it, so each one marks a state that is whole.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import batched
from types import MappingProxyType

import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.kv import KeyValue
from pydantic_core import from_json, to_json

log = structlog.get_logger()

EXPECTED_LAST = "Nats-Expected-Last-Sequence"
OPERATION, DELETED = "KV-Operation", "DEL"
HEARTBEAT_SECONDS = 0.25
PUT_SECONDS = 1.0
PAGE = 200  # entries under way at once, when all are written
STALE_SECONDS = 1.0


class StoreLostError(Exception):
    """The store does not count on from our last entry: it was wiped, or lost its tail in a crash."""


class BucketWriter:
    """Keeps a bucket equal to the entries it is given; rewrites it when the store was wiped.

    Of several processes one may write. The store refuses what does not follow the writer's own last
    entry, so one that hung while another took over changes nothing when it wakes up; it begins anew
    only if `may_write` says that it is still the one.
    """

    def __init__(self, client: Client, bucket: str, may_write: Callable[[], bool] = lambda: True) -> None:
        self._client = client
        self._may_write = may_write
        self._bucket = bucket
        self._entries: dict[str, bytes] = {}
        self._epoch = ""  # none: the bucket has to be written anew
        self._sequence = 0  # of our last entry; nobody else writes
        self._changed = asyncio.Lock()

    @property
    def written(self) -> bool:
        """Whether readers can have all entries now, as far as we know."""
        return bool(self._epoch)

    async def put(self, key: str, value: bytes) -> None:
        """Change one entry; NATS being away is no error, the next rewrite brings it."""
        async with self._changed:
            self._entries[key] = value
            if self._epoch:
                try:
                    await self._put(f"{self._epoch}.{key}", value)
                except (NatsError, TimeoutError, StoreLostError) as problem:
                    log.warning("bucket_put_failed", bucket=self._bucket, problem=repr(problem))
                    self._begin_anew()

    async def drop(self, key: str) -> None:
        """Have an entry no more; the next rewrite brings it if NATS is away."""
        async with self._changed:
            self._entries.pop(key, None)
            if self._epoch:
                try:
                    await self._put(f"{self._epoch}.{key}", b"", {OPERATION: DELETED})
                except (NatsError, TimeoutError, StoreLostError) as problem:
                    log.warning("bucket_put_failed", bucket=self._bucket, problem=repr(problem))
                    self._begin_anew()

    async def replace(self, entries: Mapping[str, bytes]) -> None:
        """Have other entries altogether: written under a new epoch within a moment."""
        async with self._changed:
            self._entries = dict(entries)
            self._begin_anew()

    async def run(self, entries: Mapping[str, bytes]) -> None:
        """Write all, then beat for ever; begin again under a new epoch after any failure."""
        self._entries = {**entries, **self._entries}
        while True:
            try:
                if not self._epoch and self._may_write():
                    await self._rewrite()
                async with self._changed:
                    if self._epoch:
                        await self._beat()
                await asyncio.sleep(HEARTBEAT_SECONDS)
            except (NatsError, TimeoutError, StoreLostError) as problem:
                log.warning("bucket_waits", bucket=self._bucket, problem=repr(problem))
                self._begin_anew()
                await asyncio.sleep(HEARTBEAT_SECONDS)

    def _begin_anew(self) -> None:
        self._epoch, self._sequence = "", 0

    async def _rewrite(self) -> None:
        async with self._changed:
            epoch = str(time.time_ns())
            for page in batched(self._entries.items(), PAGE):
                await self._put_page([(f"{epoch}.{key}", value) for key, value in page])
            await self._put(f"{epoch}.complete", b"{}")
            first = self._sequence - len(self._entries)
            self._epoch = epoch
            await self._beat()
            await self._client.jetstream(timeout=1).purge_stream(f"KV_{self._bucket}", seq=first)
            log.info("bucket_written", bucket=self._bucket, entries=len(self._entries))

    async def _beat(self) -> None:
        await self._put("heartbeat", to_json({"epoch": self._epoch}))

    async def _put_page(self, entries: Sequence[tuple[str, bytes]]) -> None:
        """Put many without waiting for each: the store takes them in this order, or refuses the rest."""
        if not self._sequence:
            (key, value), *entries = entries
            await self._put(key, value)
        last = self._sequence
        puts = [self._put_after(last + place, key, value, {}) for place, (key, value) in enumerate(entries)]
        await asyncio.gather(*puts)
        self._sequence = last + len(puts)

    async def _put(self, key: str, value: bytes, headers: Mapping[str, str] = MappingProxyType({})) -> None:
        self._sequence = await self._put_after(self._sequence, key, value, headers)

    async def _put_after(self, last: int, key: str, value: bytes, headers: Mapping[str, str]) -> int:
        """Returns the entry's sequence; without a last one, whichever it is."""
        expected = {EXPECTED_LAST: str(last)} if last else {}
        ack = await self._client.jetstream(timeout=PUT_SECONDS).publish(
            f"$KV.{self._bucket}.{key}",
            value,
            stream=f"KV_{self._bucket}",
            headers={**headers, **expected} or None,
        )
        if last and ack.seq != last + 1:
            raise StoreLostError(f"{ack.seq} came after {last}")
        return ack.seq


class BucketReader:
    """A copy of a bucket in memory. `ready` is false until one complete epoch was read."""

    def __init__(self, client: Client, bucket: str) -> None:
        self._client = client
        self._bucket = bucket
        self._served: dict[str, bytes] = {}  # the epoch that was named last, as far as it was read
        self.ready = False

    def get(self, key: str) -> bytes | None:
        return self._served.get(key)

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
        """Read the bucket until no heartbeat comes any more; before the first, until nothing comes."""
        store = await self._client.jetstream(timeout=1).key_value(self._bucket)
        watcher = await store.watchall()
        epochs: dict[str, dict[str, bytes]] = {}
        try:
            heard_at, loaded = time.monotonic(), False
            while time.monotonic() - heard_at < STALE_SECONDS:
                entry = await _next(watcher, STALE_SECONDS)
                if entry is None:
                    continue  # time is up; or the library says it caught up, which a purge can mislead
                is_heartbeat = self._take(entry, epochs)
                loaded = loaded or is_heartbeat
                if is_heartbeat or not loaded:
                    heard_at = time.monotonic()
        finally:
            await watcher.stop()

    def _take(self, entry: KeyValue.Entry, epochs: dict[str, dict[str, bytes]]) -> bool:
        """Apply one update; true for a heartbeat."""
        if entry.key == "heartbeat":
            self._serve(str(from_json(entry.value or b"{}").get("epoch", "")), epochs)
            return True
        epoch, _, key = entry.key.partition(".")
        if entry.operation is not None or entry.value is None:  # deleted
            epochs.get(epoch, {}).pop(key, None)
        else:
            epochs.setdefault(epoch, {})[key] = entry.value
        return False

    def _serve(self, named: str, epochs: dict[str, dict[str, bytes]]) -> None:
        """Serve the named epoch if it is complete, and drop the others."""
        self.ready = "complete" in epochs.get(named, {})
        if self.ready:
            self._served = epochs[named]
            for name in [name for name in epochs if name != named]:
                del epochs[name]


async def _next(watcher: KeyValue.KeyWatcher, timeout: float) -> KeyValue.Entry | None:
    try:
        entry: KeyValue.Entry | None = await watcher.updates(timeout)
        return entry
    except TimeoutError:
        return None
