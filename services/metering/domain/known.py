"""What is known of a stream: a set of facts, and what follows from it whatever their order.

Learning a fact twice changes nothing. The last runs are open to correction; what is older is sealed
into sums, so that a stream that starts and stops for years stays small.
"""

from bisect import insort
from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from services.metering.domain.runs import IDLE, STARTED, Fact, Run, RunState, hours_of, runs_of

RUNS_MAX = 100  # of each kind, open to correction
SIGNS_MAX = 1_000  # the latest; earlier ones matter only to a run whose end and successor were lost
DIFFERENCE_MS = 60_000
KIND_OF_EVENT = {"stream.started": STARTED, "stream.idle": IDLE}

type UserFrom = Literal["assigned", "creator_id", "user_tags", "streams"]
BELIEVED: tuple[UserFrom, ...] = ("assigned", "creator_id", "user_tags", "streams")


class Delivery(NamedTuple):
    """What one delivery says, as it is stored: times in milliseconds since 1970, none after `received`."""

    hook_id: str
    webhook_id: str
    event_id: str
    event: str
    at: int
    seen: int | None  # when Livepeer Studio saw the stream last
    source: int | None  # milliseconds of source video of the stream's whole life until then
    user_id: str
    user_from: UserFrom
    received: int


@dataclass
class Facts:
    """Those of one kind, by what names each: `open` is what tells the last runs."""

    open: dict[str, Fact] = field(default_factory=dict)
    sealed: dict[int, int] = field(default_factory=dict)  # milliseconds by hour
    sealed_upto: int = -1

    def learn(self, name: str, fact: Fact) -> bool:
        """Tell whether it came in time."""
        known = self.open.get(name)
        if fact[0] < self.sealed_upto or (fact[0] == self.sealed_upto and known is None):
            return False
        self.open[name] = min(known or fact, fact)
        return True

    def seal(self, runs: Sequence[Run]) -> None:
        """Put what is before the last runs into the sums, for good."""
        if len(runs) <= RUNS_MAX:
            return
        self.sealed = self.hours(runs[:-RUNS_MAX])
        first = runs[-RUNS_MAX]
        # An end at the same time is that of the run before; or of this one, which then has no time.
        start = (first.began, STARTED) if first.ms or first.state != "idle" else None
        self.open = {name: fact for name, fact in self.open.items() if fact[0] > first.began or fact == start}
        self.sealed_upto = first.began

    def hours(self, runs: Iterable[Run]) -> dict[int, int]:
        """Milliseconds by hour, with these of the open runs."""
        hours = dict(self.sealed)
        for hour, ms in hours_of(runs).items():
            hours[hour] = hours.get(hour, 0) + ms
        return hours


@dataclass
class Known:
    """`studio` are facts by event id, `begun` those of `/v1/streams` by their place in quota's log."""

    studio: Facts = field(default_factory=Facts)
    begun: Facts = field(default_factory=Facts)
    signs: list[int] = field(default_factory=list)  # sorted
    given_up: int = 0
    users: dict[UserFrom, tuple[int, str]] = field(default_factory=dict)  # when, who
    apps: tuple[int, str] = (0, "")
    stopped: tuple[int, str] = (0, "")  # when the last run of `/v1/streams` ended, and why
    source_from: tuple[int, int] | None = None  # when the first known run started, the source until then
    source_upto: int | None = None
    first: int | None = None  # of all times that were told
    last: int = 0
    too_late: int = 0  # facts of what is sealed

    # Learning

    def hear(self, delivery: Delivery) -> None:
        kind = KIND_OF_EVENT.get(delivery.event)
        if kind is not None:
            self._learn(self.studio, delivery.event_id, (delivery.at, kind))
        for sign in (delivery.at, delivery.seen):
            if sign is not None:
                self._see(sign)
        if delivery.source is not None:
            self.source_upto = max(self.source_upto or 0, delivery.source)
        if kind == STARTED:
            start = (delivery.at, delivery.source or 0)
            self.source_from = min(self.source_from or start, start)
        if delivery.user_id:
            self.name_user(delivery.user_from, delivery.at, delivery.user_id)
        if len(self.studio.open) > RUNS_MAX:
            self.studio.seal(self.studio_runs)

    def begin(self, place: str, at: int, user_id: str, app: str) -> None:
        self._learn(self.begun, place, (at, STARTED))
        if user_id:
            self.name_user("streams", at, user_id)
        if app:
            self.apps = max(self.apps, (at, app))
        self._seal_begun()

    def end(self, place: str, at: int, because: str) -> None:
        self._learn(self.begun, place, (at, IDLE))
        self.stopped = max(self.stopped, (at, because))
        self._seal_begun()

    def assign(self, user_id: str) -> None:
        """The assignment made last counts: they come in the order of our own log."""
        self.users["assigned"] = (0, user_id)

    def give_up(self, upto: int) -> None:
        self.given_up = max(self.given_up, upto)

    def name_user(self, user_from: UserFrom, at: int, user_id: str) -> None:
        self.users[user_from] = max(self.users.get(user_from, (0, "")), (at, user_id))

    # What follows

    @property
    def user_id(self) -> str:
        """Whose it is; empty if nobody said."""
        return next((self.users[told][1] for told in BELIEVED if told in self.users), "")

    @property
    def user_from(self) -> UserFrom | None:
        return next((told for told in BELIEVED if told in self.users), None)

    @property
    def app(self) -> str:
        return self.apps[1]

    @property
    def studio_runs(self) -> list[Run]:
        return runs_of(self.studio.open.values(), self.signs, self.given_up)

    @property
    def begun_runs(self) -> list[Run]:
        """They need no signs of life: quota ends each of them."""
        return runs_of(self.begun.open.values(), (), 0)

    def hours(self) -> dict[int, int]:
        """Milliseconds by hour: Livepeer Studio's, or, where it tells of no time, those of `/v1/streams`."""
        return self.studio.hours(self.studio_runs) or self.begun.hours(self.begun_runs)

    @property
    def state(self) -> RunState:
        """That of the run that began last."""
        runs = [*self.studio_runs, *self.begun_runs]
        return max(runs, key=lambda run: (run.began, run.state == "running")).state if runs else "incomplete"

    @property
    def last_run(self) -> tuple[Run, str] | None:
        """The run that began last, and why it is over: its state, or what ended it."""
        runs = [(run, str(run.state)) for run in self.studio_runs]
        runs += [(run, self.because(run)) for run in self.begun_runs]
        return max(runs, key=lambda each: (each[0].began, each[0].state == "running")) if runs else None

    def because(self, run: Run) -> str:
        """Why a run of `/v1/streams` is over: of the last one it is known who ended it."""
        at, because = self.stopped
        return because if because and run.state == "idle" and run.ended == at else run.state

    @property
    def alive(self) -> int | None:
        """The last sign of life of a run that has to be given up one day."""
        runs = self.studio_runs
        return runs[-1].ended if runs and runs[-1].state == "running" else None

    @property
    def source(self) -> int | None:
        """Milliseconds of source video since the first start we know; None: nobody told."""
        if self.source_upto is None:
            return None
        return max(0, self.source_upto - (self.source_from[1] if self.source_from else 0))

    @property
    def differs(self) -> bool:
        """Whether the time it ran and the video that came are far from each other; told once it ended."""
        source, elapsed = self.source, sum(self.hours().values())
        if source is None or self.state == "running":
            return False
        apart = abs(source - elapsed)
        return apart > DIFFERENCE_MS and 10 * apart > max(source, elapsed)

    def copy(self) -> "Known":
        return deepcopy(self)

    def _learn(self, facts: Facts, name: str, fact: Fact) -> None:
        self._note(fact[0])
        if not facts.learn(name, fact):
            self.too_late += 1

    def _seal_begun(self) -> None:
        if len(self.begun.open) > RUNS_MAX:
            self.begun.seal(self.begun_runs)

    def _see(self, sign: int) -> None:
        self._note(sign)
        if sign not in self.signs:
            insort(self.signs, sign)
            del self.signs[:-SIGNS_MAX]

    def _note(self, at: int) -> None:
        self.first = at if self.first is None else min(self.first, at)
        self.last = max(self.last, at)
