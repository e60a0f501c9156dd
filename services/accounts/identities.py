"""The `identities` bucket: what the edge authenticates from.

Entries of keys and hooks are read from the directory after the commit and put one change at a time,
so that of two commands that cross the later state stays. The put comes before the reply: a revocation
acts at once. After a restore of the database all is read and written anew.
"""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence

import structlog
from eventsourcing.persistence import PersistenceError

from contracts.accounts import Identity
from contracts.hooks import HookView, hook_entry
from services.accounts.directory import Directory, HookRow, IdentityRow
from shared.bucket import BucketWriter
from shared.lease import LeaseLostError

log = structlog.get_logger()

PUT_TIMEOUT_SECONDS = 5.0
RESTORE_POLL_SECONDS = 1.0


class Identities:
    """Made in the loop's thread; `refresh_…` is called from the handlers' threads.

    A process that hung while another took over must not say that a change acts: `refresh_…` raises
    LeaseLostError unless `may_write`, and whoever asked asks again.
    """

    def __init__(
        self,
        directory: Directory,
        writer: BucketWriter,
        recovered_epoch: Callable[[], int],
        may_write: Callable[[], bool] = lambda: True,
    ) -> None:
        self._directory = directory
        self._recovered_epoch = recovered_epoch
        self._may_write = may_write
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._turn = threading.Lock()

    async def run(self) -> None:
        """Load all entries and keep the bucket written, for ever."""
        epoch = await asyncio.to_thread(self._recovered_epoch)
        entries = await asyncio.to_thread(self._read)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._writer.run(entries))
            group.create_task(self._follow_restores(epoch))

    async def _follow_restores(self, epoch: int) -> None:
        while True:
            await asyncio.sleep(RESTORE_POLL_SECONDS)
            try:
                now = await asyncio.to_thread(self._recovered_epoch)
                if now != epoch:
                    await asyncio.to_thread(self._reload)
                    epoch = now
            except (PersistenceError, TimeoutError) as problem:
                log.warning("identities_wait", problem=repr(problem))

    def _reload(self) -> None:
        with self._turn:
            entries = self._read()
            putting = asyncio.run_coroutine_threadsafe(self._writer.replace(entries), self._loop)
            putting.result(PUT_TIMEOUT_SECONDS)
        log.warning("identities_reloaded", entries=len(entries))

    def _read(self) -> dict[str, bytes]:
        return _entries(self._directory.identities()) | _hook_entries(self._directory.hooks())

    def refresh_key(self, key_id: str) -> None:
        with self._turn:
            row = self._directory.identity(key_id)
            self._put(_entries([row] if row else []))

    def refresh_account(self, account_id: str) -> None:
        with self._turn:
            self._put(_entries(self._directory.identities(account_id)))

    def refresh_hooks(self, account_id: str) -> None:
        with self._turn:
            self._put(_hook_entries(self._directory.hooks(account_id)))

    def _put(self, entries: Mapping[str, bytes]) -> None:
        if not self._may_write():
            raise LeaseLostError("another process writes the identities now")
        putting = asyncio.run_coroutine_threadsafe(self._put_all(entries), self._loop)
        putting.result(PUT_TIMEOUT_SECONDS)

    async def _put_all(self, entries: Mapping[str, bytes]) -> None:
        for key, entry in entries.items():
            await self._writer.put(key, entry)


def _entries(rows: Sequence[IdentityRow]) -> dict[str, bytes]:
    return {row.key_id: to_entry(row) for row in rows}


def _hook_entries(rows: Sequence[HookRow]) -> dict[str, bytes]:
    return {hook_entry(row.hook_id): to_hook(row).model_dump_json().encode() for row in rows}


def to_hook(row: HookRow) -> HookView:
    return HookView(
        hook_id=row.hook_id,
        account_id=row.account_id,
        version=row.version,
        previous_until_at=row.previous_until_at,
        added_at=row.added_at,
        removed=row.removed,
    )


def to_identity(row: IdentityRow) -> Identity:
    return Identity(
        key_id=row.key_id,
        account_id=row.account_id,
        user_id=row.user_id,
        secret_hash=row.secret_hash,
        status="revoked" if row.revoked else "suspended" if row.suspended else "active",
        payer=row.payer,
    )


def to_entry(row: IdentityRow) -> bytes:
    return to_identity(row).model_dump_json().encode()
