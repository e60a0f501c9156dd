"""A service's connections to PostgreSQL: nobody waits for a store that does not answer.

A server that hangs sends no error, and its own time-outs do not run either. So each use of a
connection has a deadline on our side. Once it passed, everybody is refused at once, until a thread
beside has found the store answering again. What the late statement did is not known then: its
connection is closed, but the server may still read, and commit, what was sent.
"""

import asyncio
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Condition, Thread
from typing import Any, Self

import structlog
from eventsourcing.persistence import PersistenceError
from psycopg import Connection
from psycopg import Error as PostgresError
from psycopg.errors import _WaitTimeout
from psycopg.pq import TransactionStatus
from psycopg.rows import DictRow, dict_row

log = structlog.get_logger()

LOOP_SECONDS = 1.0  # of a use in the thread of an event loop: whatever else waits for it, waits
THREAD_SECONDS = 4.0  # of one in any other thread of a service: a page of a log on a busy machine
START_SECONDS = 10.0  # of one while a service starts, and makes tables
# The least that psycopg takes, and twice as long each time: a server that hangs has all of them
# waiting when it wakes up, and the last of them is answered at once.
CONNECT_SECONDS, CONNECT_SECONDS_MAX = 2, 8
CONNECTIONS_MAX = 8
RETRY_SECONDS = 0.2
REST_SECONDS = 0.5  # after a time-out: a store that takes connections may still hold what we wait for
# What we gave up or were halted in must not hold its locks for long. Milliseconds.
OPTIONS = (
    " -c statement_timeout=10000 -c idle_in_transaction_session_timeout=2000"
    " -c client_connection_check_interval=500"
)


class StoreAwayError(PersistenceError):
    """The store did not answer in time, or is known not to. What was sent may or may not be done."""


class BoundedConnection(Connection[DictRow]):
    """A connection whose use ends at its deadline, however many statements that are."""

    deadline = math.inf  # by the monotonic clock

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        if self.deadline < math.inf and timeout is None:
            timeout = max(0.0, self.deadline - time.monotonic())
        try:
            return super().wait(gen, interval, timeout)
        except _WaitTimeout as problem:
            self.close()
            raise StoreAwayError("the store did not answer in time") from problem


class Connections:
    """Takes the place of the library's pool.

    Made in a running event loop, as services do, each use has a deadline. Made elsewhere, by a tool
    that replays or rebuilds, a statement may take as long as it takes.
    """

    def __init__(self, parameters: dict[str, Any], connections_max: int = CONNECTIONS_MAX) -> None:
        self._is_bounded = _in_loop()
        self._started_at = time.monotonic() + START_SECONDS
        self._parameters = {
            "row_factory": dict_row,
            "autocommit": True,
            **({"options": OPTIONS} if self._is_bounded else {}),
            **parameters,
        }
        self._connections_max = connections_max
        self._changed = Condition()  # guards all that follows
        self._idle: list[BoundedConnection] = []
        self._count = 0  # idle, in use, or being opened
        self._opening = False
        self._away = False
        self._closed = False

    @contextmanager
    def connection(self) -> Iterator[BoundedConnection]:
        """Raise StoreAwayError at once if the store is away, else when the deadline has passed."""
        connection = self._take()
        try:
            yield connection
        except StoreAwayError:
            self._lose()
            raise
        finally:
            self._give_back(connection)

    def open(self, wait: bool = False, timeout: float = 0) -> None:  # noqa: FBT001, FBT002 (the library's call)
        """Do nothing: connections are opened when they are needed."""

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._drop_idle()
            self._changed.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take(self) -> BoundedConnection:
        deadline = self._deadline()
        with self._changed:
            while not self._idle:
                if self._away or self._closed:
                    raise StoreAwayError("the store does not answer")
                if not self._opening and self._count < self._connections_max:
                    self._open_one(rest_seconds=0)
                left = deadline - time.monotonic()
                if not self._changed.wait(None if left == math.inf else left):
                    raise StoreAwayError("no connection in time")
            connection = self._idle.pop()
        connection.deadline = deadline
        return connection

    def _deadline(self) -> float:
        if not self._is_bounded:
            return math.inf
        now = time.monotonic()
        if now < self._started_at:
            return now + START_SECONDS
        return now + (LOOP_SECONDS if _in_loop() else THREAD_SECONDS)

    def _give_back(self, connection: BoundedConnection) -> None:
        is_good = connection.pgconn.transaction_status == TransactionStatus.IDLE
        with self._changed:
            if is_good and not self._closed:
                self._idle.append(connection)
            else:
                connection.close()
                self._count -= 1
                self._drop_idle()  # a server that broke one has broken all
            self._changed.notify()

    def _lose(self) -> None:
        """Refuse everybody until the store takes a connection again."""
        with self._changed:
            if self._away or self._closed:
                return
            log.warning("store_away")
            self._away = True
            self._drop_idle()
            if not self._opening:
                self._open_one(rest_seconds=REST_SECONDS)
            self._changed.notify_all()

    def _drop_idle(self) -> None:
        for connection in self._idle:
            connection.close()
        self._count -= len(self._idle)
        self._idle.clear()

    def _open_one(self, *, rest_seconds: float) -> None:
        """Have a connection opened by a thread of its own, so that nobody's time is spent on it."""
        self._opening = True
        self._count += 1
        opener = Thread(target=self._open, args=(rest_seconds,), name="store-opener", daemon=True)
        opener.start()

    def _open(self, rest_seconds: float) -> None:
        """Try until there is one; as long as there is none the store is away."""
        time.sleep(rest_seconds)
        patience = CONNECT_SECONDS
        while not self._closed:
            try:
                connection = BoundedConnection.connect(**{"connect_timeout": patience, **self._parameters})
            except PostgresError as problem:
                self._note_away(problem)
                patience = min(2 * patience, CONNECT_SECONDS_MAX)
                time.sleep(RETRY_SECONDS)
            else:
                self._welcome(connection)
                return

    def _note_away(self, problem: PostgresError) -> None:
        with self._changed:
            if not self._away:
                log.warning("store_away", problem=repr(problem))
            self._away = True
            self._changed.notify_all()

    def _welcome(self, connection: BoundedConnection) -> None:
        with self._changed:
            if self._away:
                log.info("store_is_back")
            self._away = self._opening = False
            if self._closed:
                connection.close()
            else:
                self._idle.append(connection)
            self._changed.notify_all()


def _in_loop() -> bool:
    """Tell whether an event loop runs in this thread."""
    with suppress(RuntimeError):
        return asyncio.get_running_loop() is not None
    return False
