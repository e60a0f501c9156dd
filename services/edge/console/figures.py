"""The figures of a page, asked of metering, quota and the signer over the bus, all for one viewer.

A viewer of one user asks for that user's only; what another one's answer would hold is left out again
here, so that a service of an older version, which does not know the question, tells nothing either.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import ValidationError

from contracts.limits import LimitsView, ReadLimits, Scoped
from contracts.metered_streams import (
    ListMeteredStreams,
    MeteredStream,
    MeteredStreamPage,
    MeteredStreamView,
    ReadMeteredStream,
    StreamRun,
)
from contracts.metering import (
    GroupKey,
    ListSessions,
    QueryUsage,
    SessionPage,
    SessionRow,
    UsagePage,
    UsageRow,
)
from contracts.signer import ReadSession, SessionView
from services.edge.console.days import Calendar, Chart, Hour
from services.edge.console.visitors import Viewer
from services.edge.parts import Parts
from shared.bus import CommandRefusedError, ServiceUnavailableError, ask

ROWS_MAX = 1_000  # of a sum by user or app: as many as metering answers with
LOOKED_AT = 200  # newest sessions and streams, among which those that run are counted
SHOWN = 10  # of users, apps, streams and sessions
MINUTE = timedelta(minutes=1)


class NotFound(Exception):  # noqa: N818 (a refusal is an answer, not an error)
    """There is no such thing, or it is somebody else's."""


@dataclass(frozen=True, slots=True)
class Sum:
    wei: int
    payments: int
    tickets: int

    @classmethod
    def of(cls, hours: Sequence[Hour]) -> "Sum":
        return cls(
            sum(hour.wei for hour in hours),
            sum(hour.payments for hour in hours),
            sum(hour.tickets for hour in hours),
        )


@dataclass(frozen=True, slots=True)
class Share:
    """What one user or app cost; name None: none was named."""

    name: str | None
    today: int
    month: int


@dataclass(frozen=True, slots=True)
class Shares:
    """The largest ones of this month, and what all the others cost together."""

    rows: Sequence[Share]
    others: Share | None
    incomplete: bool  # there are more than were looked at


@dataclass(frozen=True, slots=True)
class Now:
    at: datetime
    wei_per_minute: int
    sessions: int
    streams: int


@dataclass(frozen=True, slots=True)
class SessionLine:
    row: SessionRow
    running: bool
    summary: str  # where it stands and why; empty where the signer does not say now


@dataclass(frozen=True, slots=True)
class StreamLine:
    view: MeteredStreamView
    ran_ms: int
    last: SessionLine | None  # of its payment sessions


@dataclass(frozen=True, slots=True)
class Usage:
    limits: LimitsView
    key_limits: LimitsView
    calendar: Calendar
    now: Now
    today: Sum
    month: Sum
    day_chart: Chart
    month_chart: Chart
    users: Shares
    apps: Shares
    streams: Sequence[StreamLine]
    sessions: Sequence[SessionLine]


class Figures:
    """Asks for one viewer. Raises ServiceUnavailableError where metering or quota do not answer."""

    def __init__(self, parts: Parts, viewer: Viewer) -> None:
        self._parts = parts
        self._viewer = viewer
        self._scope = viewer.scope
        self._at = parts.clock.now()

    async def usage(self) -> Usage:
        limits = await self.limits()
        calendar = Calendar.of(self._at, limits.time_zone)
        key_limits, hours, users, apps, sessions, streams = await asyncio.gather(
            self._limits(Scoped(account_id=self._scope.account_id, key_id=self._viewer.holder.key_id)),
            self._hours(calendar.month_from),
            self._by("user", calendar),
            self._by("app", calendar),
            self._sessions(),
            self._streams(),
        )
        today, month = Sum.of(calendar.of_today(hours)), Sum.of(hours)
        session_lines, stream_lines = await asyncio.gather(
            asyncio.gather(*map(self._session_line, sessions[:SHOWN])),
            asyncio.gather(*map(self._stream_line, streams[:SHOWN])),
        )
        return Usage(
            limits=limits,
            key_limits=key_limits,
            calendar=calendar,
            now=_now(self._at, sessions, streams),
            today=today,
            month=month,
            day_chart=calendar.day_chart(hours),
            month_chart=calendar.month_chart(hours),
            users=_shares(*users, today, month),
            apps=_shares(*apps, today, month),
            streams=stream_lines,
            sessions=session_lines,
        )

    async def limits(self) -> LimitsView:
        return await self._limits(self._scope)

    async def now(self) -> Now:
        return _now(self._at, *await asyncio.gather(self._sessions(), self._streams()))

    async def stream(self, stream_id: str) -> tuple[MeteredStreamView, Sequence[SessionLine]]:
        """A stream, and its first payment sessions with why each stopped; raise NotFound."""
        try:
            view = await self._stream_view(stream_id)
        except (CommandRefusedError, ValidationError) as refused:  # the latter: no such id can be
            raise NotFound from refused
        if not self._viewer.may_see(view.stream.user_id):
            raise NotFound
        return view, await asyncio.gather(*map(self._session_line, view.sessions[-SHOWN:]))

    async def session(self, session_id: str) -> SessionView:
        """Raise NotFound."""
        try:
            view = await self._session_view(session_id)
        except (CommandRefusedError, ValidationError) as refused:
            raise NotFound from refused
        if not self._viewer.may_see(view.user_id):
            raise NotFound
        return view

    async def _limits(self, scope: Scoped) -> LimitsView:
        return await ask(self._parts.client, ReadLimits(**dict(scope)), LimitsView)

    async def _hours(self, from_at: datetime) -> list[Hour]:
        return [
            Hour(_hour(row), row.cost_wei, row.payments, row.tickets)
            for row in await self._sums("hour", from_at)
        ]

    async def _by(self, key: GroupKey, calendar: Calendar) -> tuple[list[UsageRow], list[UsageRow]]:
        today, month = await asyncio.gather(
            self._sums(key, *calendar.today), self._sums(key, calendar.month_from)
        )
        return today, month

    async def _sums(self, key: GroupKey, from_at: datetime, to_at: datetime | None = None) -> list[UsageRow]:
        asked = QueryUsage(
            account_id=self._scope.account_id,
            user_id=self._scope.user_id,
            from_at=from_at,
            to_at=to_at,
            group_by=[key],
            limit=ROWS_MAX,
        )
        return (await ask(self._parts.client, asked, UsagePage)).rows

    async def _sessions(self) -> list[SessionRow]:
        asked = ListSessions(account_id=self._scope.account_id, user_id=self._scope.user_id, limit=LOOKED_AT)
        page = await ask(self._parts.client, asked, SessionPage)
        return [row for row in page.sessions if self._viewer.may_see(row.user_id)]

    async def _streams(self) -> list[MeteredStream]:
        asked = ListMeteredStreams(
            account_id=self._scope.account_id, user_id=self._scope.user_id, limit=LOOKED_AT
        )
        page = await ask(self._parts.client, asked, MeteredStreamPage)
        return [stream for stream in page.streams if self._viewer.may_see(stream.user_id)]

    async def _stream_line(self, stream: MeteredStream) -> StreamLine:
        view = await self._stream_view(stream.stream_id)
        last = await self._session_line(view.sessions[-1]) if view.sessions else None
        return StreamLine(view, ran_ms(view, self._at), last)

    async def _session_line(self, row: SessionRow) -> SessionLine:
        """Its summary is the signer's; where that is away, all other figures stand without it."""
        try:
            summary = (await self._session_view(row.session_id)).summary
        except (CommandRefusedError, ServiceUnavailableError):
            summary = ""
        return SessionLine(row, _is_running(row, self._at), summary)

    async def _stream_view(self, stream_id: str) -> MeteredStreamView:
        asked = ReadMeteredStream(account_id=self._scope.account_id, stream_id=stream_id)
        view = await ask(self._parts.client, asked, MeteredStreamView)
        own = [row for row in view.sessions if self._viewer.may_see(row.user_id)]
        return view if len(own) == len(view.sessions) else _without_others(view, own)

    async def _session_view(self, session_id: str) -> SessionView:
        asked = ReadSession(account_id=self._scope.account_id, session_id=session_id)
        return await ask(self._parts.client, asked, SessionView)


def run_ms(run: StreamRun, at: datetime) -> int:
    """How long a run has lasted; one that goes on, up to now and not to its last sign of life."""
    if run.ended_at is not None:
        return run.elapsed_ms
    return max(run.elapsed_ms, (at - run.began_at) // timedelta(milliseconds=1))


def ran_ms(view: MeteredStreamView, at: datetime) -> int:
    """How long a stream has run in all, likewise."""
    going_on = [run for run in view.runs if run.ended_at is None][-1:]
    return view.stream.elapsed_ms + sum(run_ms(run, at) - run.elapsed_ms for run in going_on)


def _without_others(view: MeteredStreamView, own: list[SessionRow]) -> MeteredStreamView:
    """A stream that two users paid for, as one of them may see it."""
    return view.model_copy(
        update={
            "sessions": own,
            "session_count": len(own),
            "payments": sum(row.payments for row in own),
            "tickets": sum(row.tickets for row in own),
            "cost_wei": sum(row.cost_wei for row in own),
            "orchestrator_swaps": max(0, len(own) - 1),
        }
    )


def _now(at: datetime, sessions: Sequence[SessionRow], streams: Sequence[MeteredStream]) -> Now:
    running = [row for row in sessions if _is_running(row, at)]
    return Now(
        at=at,
        wei_per_minute=sum(map(_wei_per_minute, running)),
        sessions=len(running),
        streams=sum(stream.state == "running" for stream in streams),
    )


def _is_running(row: SessionRow, at: datetime) -> bool:
    """It paid within the last minute: clients pay every few seconds."""
    return not row.closed and row.payments > 0 and at - row.last_at <= MINUTE


def _wei_per_minute(row: SessionRow) -> int:
    """What a session costs a minute on average, rounded up; of its first minute, all it has cost."""
    lasted = max(row.last_at - row.opened_at, MINUTE) // timedelta(microseconds=1)
    return -(-row.cost_wei * (MINUTE // timedelta(microseconds=1)) // lasted)


def _hour(row: UsageRow) -> datetime:
    return datetime.fromisoformat(row.group["hour"] or "")


def _shares(today: Sequence[UsageRow], month: Sequence[UsageRow], day: Sum, whole: Sum) -> Shares:
    [key] = month[0].group if month else [""]
    today_by_name = {row.group[key]: row.cost_wei for row in today}
    every = [
        Share(row.group[key], today_by_name.get(row.group[key], 0), row.cost_wei)
        for row in sorted(month, key=lambda row: (-row.cost_wei, row.group[key] or ""))
    ]
    rows = every[:SHOWN]
    others = Share(
        None,
        max(0, day.wei - sum(row.today for row in rows)),
        max(0, whole.wei - sum(row.month for row in rows)),
    )
    incomplete = len(month) == ROWS_MAX
    return Shares(rows, others if len(every) > SHOWN or incomplete else None, incomplete)
