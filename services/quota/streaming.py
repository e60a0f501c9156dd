"""The use cases of streams: may one begin, does it go on, has it ended."""

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta

import structlog
from eventsourcing.persistence import PersistenceError

from contracts.limits import LimitRow
from contracts.stream_starts import (
    BeginStream,
    StreamAnswer,
    StreamBegun,
    StreamRefused,
    StreamView,
)
from services.quota.application import Quota
from services.quota.domain.granting import Ask, check_spend, refusing
from services.quota.domain.limit_set import Scope
from services.quota.domain.refusal import AllowanceRefusal, SpendLimitReached
from services.quota.domain.streams import Because, Streams
from services.quota.limit_views import row_of
from services.quota.stream_leases import StreamRow
from services.quota.work import Work, scopes_of_ids
from shared.clock import Clock
from shared.money import Wei
from shared.refusal import Refused

log = structlog.get_logger()

SWEEP_SECONDS = 1.0
SWEEP_MAX = 100


class StreamNotFound(Refused):
    code = "stream_not_found"


class Streaming:
    def __init__(self, quota: Quota) -> None:
        self._quota = quota
        self._leases = quota.stream_leases

    def begin(self, asked: BeginStream, now: datetime) -> StreamAnswer:
        """Hold a place for the stream, if limits have room for it now; a repeat renews its lease."""
        scopes = [
            Scope(asked.account_id),
            *scopes_of_ids(asked.account_id, asked.user_id, asked.key_id, asked.token_id),
        ]

        def decide(work: Work) -> StreamAnswer:
            try:
                return self._begin(work, asked, scopes, now)
            except AllowanceRefusal as refusal:
                return _refused(work, refusal, scopes, now)

        also = [Streams.create_id(asked.account_id)]
        return self._quota.decide(decide, now, scopes=scopes, also=also)

    def _begin(self, work: Work, asked: BeginStream, scopes: list[Scope], now: datetime) -> StreamBegun:
        streams = work.streams(asked.account_id)
        work.budget(asked.account_id).check_open(asked.key_id)
        if asked.stream_id not in streams.running:
            for scope in scopes:
                streams.check_may_begin(asked.stream_id, scope, work.limits(scope).streams_max)
                _check_room(work, asked, scope)
        streams.begin(
            asked.stream_id,
            user_id=asked.user_id,
            key_id=asked.key_id,
            token_id=asked.token_id,
            app=asked.app,
            job_type=asked.job_type,
            now=now,
        )
        begun_at = datetime.fromtimestamp(streams.running[asked.stream_id]["begun"], now.tzinfo)
        row = StreamRow(
            account_id=asked.account_id,
            stream_id=asked.stream_id,
            user_id=asked.user_id,
            key_id=asked.key_id,
            token_id=asked.token_id,
            app=asked.app,
            job_type=asked.job_type,
            begun_at=begun_at,
            lease_ends_at=now + timedelta(seconds=asked.lease_seconds),
        )
        work.effects.append(self._leases.put(row, asked.lease_seconds))
        return _begun(row, list(_rows(work, scopes)))

    def beat(self, account_id: str, stream_id: str, user_id: str | None, now: datetime) -> StreamBegun:
        """Raises StreamNotFound."""
        row = self._leases.beat(account_id, stream_id, user_id, now)
        if row is None:
            raise StreamNotFound(f"there is no stream {stream_id} that runs")
        scopes = [Scope(account_id), *scopes_of_ids(account_id, row.user_id, row.key_id, row.token_id)]
        also = [Streams.create_id(account_id)]
        rows = self._quota.read(lambda work: list(_rows(work, scopes)), now, scopes=scopes, also=also)
        return _begun(row, rows)

    def end(
        self,
        account_id: str,
        stream_id: str,
        user_id: str | None,
        because: Because,
        now: datetime,
        *,
        alive_at: datetime | None = None,
    ) -> StreamView:
        """Raises StreamNotFound, also if it has ended before."""

        def decide(work: Work) -> StreamView:
            streams = work.streams(account_id)
            stream = streams.running.get(stream_id)
            if stream is None or user_id not in {None, stream["user_id"]}:
                raise StreamNotFound(f"there is no stream {stream_id} that runs")
            streams.end(stream_id, because, now, alive_at=alive_at)
            work.effects.append(self._leases.drop(account_id, stream_id))
            return StreamView(
                stream_id=stream_id,
                account_id=account_id,
                **{name: stream[name] for name in ("user_id", "key_id", "app", "job_type")},
                begun_at=datetime.fromtimestamp(stream["begun"], now.tzinfo),
                lease_ends_at=None,
                ended_at=now,
                ended_because=because,
            )

        return self._quota.decide(decide, now, also=[Streams.create_id(account_id)])

    def running(self, account_id: str, after: str, limit: int) -> list[StreamView]:
        return [
            StreamView(
                stream_id=row.stream_id,
                account_id=row.account_id,
                user_id=row.user_id,
                key_id=row.key_id,
                app=row.app,
                job_type=row.job_type,
                begun_at=row.begun_at,
                lease_ends_at=row.lease_ends_at,
            )
            for row in self._leases.running(account_id, after, limit)
        ]

    async def sweep(self, clock: Clock) -> None:
        """End for ever the streams whose leases have expired."""
        while True:
            try:
                await asyncio.to_thread(self._end_expired, clock.now())
            except PersistenceError as problem:
                log.warning("streams_wait", problem=repr(problem))
            await asyncio.sleep(SWEEP_SECONDS)

    def _end_expired(self, now: datetime) -> None:
        for row in self._leases.expired(now, SWEEP_MAX):
            try:
                self.end(row.account_id, row.stream_id, None, "lease_expired", now, alive_at=row.alive_at)
            except StreamNotFound:
                log.warning("stream_without_events", account_id=row.account_id, stream_id=row.stream_id)
            else:
                log.info("stream_lease_expired", account_id=row.account_id, stream_id=row.stream_id)


def _check_room(work: Work, asked: BeginStream, scope: Scope) -> None:
    """Raise AllowanceRefusal if not even a wei may be spent now."""
    books = work.books(scope)
    if books is None:
        return
    conditions = work.conditions(scope)
    least = Ask(
        account_id=asked.account_id,
        key_id=asked.key_id or "",
        session_id="",
        number=1,
        payer="",
        needed=Wei(1),
        wanted=Wei(1),
    )
    check_spend(least, str(scope), refusing(books, conditions), conditions.rate)


def _rows(work: Work, scopes: list[Scope]) -> Iterator[LimitRow]:
    """The limits of each scope, with the scope before the name, but for the account's."""
    for scope in scopes:
        prefix = "" if scope.level == "account" else f"{scope.level}."
        conditions, books = work.conditions(scope), work.books(scope)
        for standing in books.standings(conditions) if books is not None else ():
            row = row_of(standing)
            yield row.model_copy(update={"name": prefix + row.name})
        streams_max = conditions.limits.streams_max
        if streams_max is not None:
            used = work.streams(scope.account_id).count(scope)
            left = max(0, streams_max - used)
            yield LimitRow(name=f"{prefix}streams_max", limit=streams_max, used=used, held=0, remaining=left)


def _begun(row: StreamRow, rows: list[LimitRow]) -> StreamBegun:
    assert row.lease_ends_at is not None
    return StreamBegun(
        stream_id=row.stream_id,
        account_id=row.account_id,
        user_id=row.user_id,
        begun_at=row.begun_at,
        lease_ends_at=row.lease_ends_at,
        rows=rows,
    )


def _refused(work: Work, refusal: AllowanceRefusal, scopes: list[Scope], now: datetime) -> StreamRefused:
    retry_after = refusal.retry_after_seconds
    if isinstance(refusal, SpendLimitReached) and refusal.standing.resets_at is not None:
        retry_after = int((refusal.standing.resets_at - now).total_seconds()) + 1
    return StreamRefused.model_validate(
        {
            "status": refusal.status,
            "code": refusal.reason,
            "message": str(refusal),
            "retry_after_seconds": retry_after,
            "rows": list(_rows(work, scopes)),
        }
    )
