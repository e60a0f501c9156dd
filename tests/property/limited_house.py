"""Sessions of users with keys under limits, at one quota or several; and the sums as they should be.

The sums are kept by hand: which windows a payment counts in is found by the clock of the time zone,
not by quota's own arithmetic.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from contracts.deposit_watcher import FundsObserved
from contracts.message import Event, LogEntry
from contracts.signer import PaymentSigned, SessionClosed
from services.quota.application import Answer, Quota
from services.quota.domain.granting import Ask
from services.quota.domain.limit_set import Author, Scope
from services.quota.domain.limits import Limits
from services.quota.limiting import Limiting
from shared.money import Wei

ACCOUNT, PAYER = "acme", "0x" + "11" * 20
USERS, KEYS = ("ann", "bob"), ("key-1", "key-2")
AUTHOR = Author("admin", "test")
STEPS = ("ask", "ask", "ask", "pay", "pay", "pay", "close", "wait", "turn", "take back")


def nothing(_: Any) -> None:
    """An effect of which nobody hears."""


@dataclass
class Session:
    user_id: str
    key_id: str
    asks: int = 0
    granted: int = 0
    spent: int = 0

    @property
    def held(self) -> int:
        return self.granted - self.spent


@dataclass
class House:
    """`quotas` are replicas: each command goes to one of them by chance, the log is read by the first."""

    quotas: Sequence[Quota]
    zone: str
    limits: dict[Scope, Limits]
    random: Random
    now: datetime = datetime(2026, 3, 28, 20, 7, tzinfo=UTC)
    sessions: dict[str, Session] = field(default_factory=dict)
    payments: list[tuple[datetime, str, str, int]] = field(default_factory=list)
    position: int = 0

    def open(self) -> None:
        funds = FundsObserved(
            payer=PAYER,
            deposit=10**9,
            reserve=10**6,
            withdraw_round=0,
            pool_size=100,
            l1_block=1,
            block_hash="0x",
        )
        self._hear(funds, self.quotas[0].follow_funds)
        limiting = Limiting(self.quotas[0])
        limiting.set_time_zone(ACCOUNT, self.zone, AUTHOR, self.now)
        for scope, limits in self.limits.items():
            limiting.set_limits(scope, limits, AUTHOR, self.now)

    def step(self) -> None:
        {
            "ask": self._ask,
            "pay": self._pay,
            "close": self._close,
            "wait": lambda: self._wait(timedelta(seconds=self.random.randrange(1, 900))),
            "turn": lambda: self._wait(timedelta(minutes=self.random.randrange(15, 600))),
            "take back": self._take_back,
        }[self.random.choice(STEPS)]()
        self.check()

    def check(self) -> None:
        """No window of anybody has more than its limit; what is held is what sessions have left."""
        held = sum(session.held for session in self.sessions.values())
        for quota in self.quotas:
            budget = quota.budget(ACCOUNT, self.now)
            assert (budget.held, budget.spent) == (held, sum(cost for *_, cost in self.payments))
        for scope, limits in self.limits.items():
            self._check_windows(scope, limits)

    def _check_windows(self, scope: Scope, limits: Limits) -> None:
        held = sum(session.held for session in self.sessions.values() if scope.has(vars(session)))
        spent: dict[tuple[str, Any], int] = defaultdict(int)
        for at, user_id, key_id, cost in self.payments:
            if scope.has({"user_id": user_id, "key_id": key_id}):
                for kind in ("hour", "day", "month", "all"):
                    spent[kind, self._window(kind, at)] += cost
        for kind in ("hour", "day", "month", "all"):
            limit = getattr(limits, "spend_limit_wei" if kind == "all" else f"spend_per_{kind}_wei")
            if limit is None:
                continue
            over = {window: cost for (of, window), cost in spent.items() if of == kind and cost > limit}
            assert not over, f"{scope} spent {over} of {limit} in an {kind}"
            assert spent[kind, self._window(kind, self.now)] + held <= limit

    def _window(self, kind: str, at: datetime) -> Any:
        """What the clock on the wall shows, and which of two equal hours it is."""
        local = at.astimezone(ZoneInfo(self.zone))
        match kind:
            case "hour":
                return local.strftime("%F %H"), local.utcoffset()
            case "day":
                return local.strftime("%F")
            case "month":
                return local.strftime("%Y-%m")
        return ""

    def _ask(self) -> None:
        name = f"s{self.random.randrange(6)}"
        session = self.sessions.get(name) or Session(self.random.choice(USERS), self.random.choice(KEYS))
        needed = self.random.randrange(1, 60)
        wish = Ask(
            account_id=ACCOUNT,
            key_id=session.key_id,
            session_id=name,
            number=session.asks + 1,
            payer=PAYER,
            needed=Wei(needed),
            wanted=Wei(needed + self.random.randrange(200)),
            user_id=session.user_id,
        )
        answers: list[Answer] = [
            self._any().grant_all([wish], self.now)[0] for _ in range(self.random.randrange(1, 3))
        ]
        granted = [answer for answer in answers if isinstance(answer, int)]
        assert len({str(answer) for answer in granted}) <= 1  # a repeat gets the same
        if granted:
            assert needed <= granted[0] <= wish.wanted
            session.asks, session.granted = session.asks + 1, session.granted + granted[0]
            self.sessions[name] = session

    def _pay(self) -> None:
        paying = [(name, session) for name, session in self.sessions.items() if session.held]
        if not paying:
            return
        name, session = self.random.choice(paying)
        cost = self.random.randrange(1, session.held + 1)
        session.spent += cost
        self.payments.append((self.now, session.user_id, session.key_id, cost))
        payment = PaymentSigned(
            account_id=ACCOUNT,
            session_id=name,
            user_id=session.user_id,
            app="app",
            job_type="live",
            recipient="0x" + "22" * 20,
            payer=PAYER,
            tickets=1,
            cost=cost,
            face_value=1000,
            win_prob="0x1",
            units=1,
            price_per_unit=1,
            pixels_per_unit=1,
            creation_round=10,
        )
        self._hear(payment, self.quotas[0].follow_spend)

    def _close(self) -> None:
        if not self.sessions:
            return
        name = self.random.choice(list(self.sessions))
        session = self.sessions[name]
        closed = SessionClosed(
            account_id=ACCOUNT, session_id=name, spent=session.spent, ask_number=session.asks
        )
        self._hear(closed, self.quotas[0].follow_spend)
        session.granted = session.spent  # what it asks next is counted on

    def _take_back(self) -> None:
        """A limit is set anew, as it was: leases are asked back, and nothing is free before a close."""
        scope = self.random.choice(list(self.limits))
        limiting = Limiting(self._any())
        limiting.set_limits(
            scope, Limits(**{**self.limits[scope].set_ones(), "grace_seconds": 0}), AUTHOR, self.now
        )
        limiting.set_limits(scope, self.limits[scope], AUTHOR, self.now)

    def _wait(self, time: timedelta) -> None:
        self.now += time

    def _any(self) -> Quota:
        return self.random.choice(self.quotas)

    def _hear(self, event: Event, follow: Any) -> None:
        self.position += 1
        entry = LogEntry(
            epoch=1,
            position=self.position,
            previous_position=self.position - 1,
            subject=event.subject,
            at=self.now,
            event=event.model_dump(mode="json"),
        )
        follow([entry], nothing)
