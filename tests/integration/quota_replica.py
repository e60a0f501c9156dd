"""One of several replicas of quota on one store, with what it is asked for an account."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any

from contracts.stream_starts import (
    AuthorizePayment,
    BeginStream,
    StreamBegun,
    StreamRefused,
)
from services.quota.application import Quota
from services.quota.authorizing import Authorizing
from services.quota.domain.limit_set import Author, Scope
from services.quota.domain.limits import Limits
from services.quota.limiting import Limiting
from services.quota.stopping import Stopping
from services.quota.streaming import Streaming
from shared.money import Wei
from shared.store import postgres_env

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
AUTHOR = Author("admin:12345678", "test")
ACCOUNT = Scope("acme")
NANOSECONDS = 10**9


class Replica:
    def __init__(self, env: dict[str, str]) -> None:
        self.quota = Quota(Wei(1000), env)
        self.limiting, self.stopping = Limiting(self.quota), Stopping(self.quota)
        self.streaming = Streaming(self.quota)
        self.authorizing = Authorizing(self.quota, idle_seconds=120)

    def limit(self, scope: Scope = ACCOUNT, **limits: Any) -> None:
        self.limiting.set_limits(scope, Limits(**limits), AUTHOR, NOW)

    def begin(self, stream: str, user: str | None = None, at: datetime = NOW) -> StreamBegun | StreamRefused:
        return self.streaming.begin(BeginStream(account_id="acme", stream_id=stream, user_id=user), at)

    def running(self) -> list[str]:
        return [row.stream_id for row in self.streaming.running("acme", "", 50)]

    def told(self, sequence: int, balance: str, at: datetime = NOW, state: str = "s") -> tuple[int, int]:
        asked = AuthorizePayment(
            account_id="acme",
            user_id="ann",
            key_id="AbCdEfGhIjKl",
            state_id=state,
            sequence=sequence,
            balance=balance,
            price_per_unit=3,
            pixels_per_unit=1,
            job_type="live",
            last_update_ns=int(at.timestamp()) * NANOSECONDS,
        )
        answer = self.authorizing.authorize(asked, at)
        return answer.status, answer.estimate


@contextmanager
def two_replicas(dsn: str) -> Iterator[tuple[Replica, Replica]]:
    env = dict(postgres_env(dsn, "quota", create_tables=True))
    with ExitStack() as stack:
        pair = Replica(env), Replica(env)
        for each in pair:
            stack.callback(each.quota.close)
        pair[0].quota.create_tables()
        yield pair
