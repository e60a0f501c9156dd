"""Two signers and two quotas on one PostgreSQL, none knowing of another, and who sends them off."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from threading import Barrier

from contracts.message import Event, LogEntry
from services.quota.application import Answer, Quota
from services.quota.domain.granting import Ask
from services.quota.domain.refusal import AllowanceRefusal
from services.signer.application import Outcome, Signing
from services.signer.deciding import AllowanceNeeded, Grant
from services.signer.intent import PaymentRequest
from services.signer.keys import LocalKey
from services.signer.outbox import SignerOutbox
from services.signer.payer import Payer
from services.signer.rules import Limits
from services.signer.state import StateSeal
from shared.log import PublicLog
from shared.money import Wei
from shared.positions import Positions
from shared.store import EventSourced, postgres_env
from tests.infra import Database
from tests.quotes import chain_view

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = LocalKey(b"\x11" * 32)
PAYER = "0x" + KEY.address.hex()
DEADLINE_SECONDS = 100
LIMIT = Wei(101)  # of each new account: one ticket, as its cost is rounded up


class Field:
    """Where the rounds are run."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._opened = ExitStack()
        self._pool = self._opened.enter_context(ThreadPoolExecutor(2))
        self.signers = (self._signer(), self._signer())
        self.quotas = (self._quota(), self._quota())
        self.log = PublicLog(self.signers[0], SignerOutbox(self.signers[0]))
        self.log.create_tables()
        self.positions = Positions(self.quotas[0])
        self.positions.create_tables()
        self.quotas[0].create_tables()

    def close(self) -> None:
        self._opened.close()

    def together[One, Other](
        self, one: Callable[[], One], other: Callable[[], Other]
    ) -> tuple[One | Exception, Other | Exception]:
        """Run both at the same moment; what one raises is its result."""
        barrier = Barrier(2)
        first = self._pool.submit(_started, barrier, one)
        second = self._pool.submit(_started, barrier, other)
        return first.result(DEADLINE_SECONDS), second.result(DEADLINE_SECONDS)

    def pay(self, which: int, account: str, text: str, now: datetime = NOW) -> Outcome | Answer:
        """One payment through one signer and one quota: the reply, or who refused it and why."""
        request = PaymentRequest(account, "key-1", None, None, text)
        [outcome] = self.signers[which].sign_all([request], now)
        if not isinstance(outcome, AllowanceNeeded):
            return outcome
        answer = self.ask(which, account, outcome)
        if isinstance(answer, AllowanceRefusal):
            return answer
        return self._sign(which, request, Grant(outcome.number, answer), now)

    def ask(self, which: int, account: str, wish: AllowanceNeeded) -> Answer:
        ask = Ask(account, wish.key_id, wish.session_id, wish.number, wish.payer, wish.needed, wish.wanted)
        [answer] = self.quotas[which].grant_all([ask], NOW)
        return answer

    def pay_freely(self, which: int, account: str, text: str, now: datetime = NOW) -> Outcome:
        """A payment that quota grants whatever it needs, and three times more."""
        request = PaymentRequest(account, "key-1", None, None, text)
        [outcome] = self.signers[which].sign_all([request], now)
        if isinstance(outcome, AllowanceNeeded):
            return self._sign(which, request, Grant(outcome.number, Wei(4 * outcome.needed)), now)
        return outcome

    def _sign(self, which: int, request: PaymentRequest, grant: Grant, now: datetime) -> Outcome:
        [outcome] = self.signers[which].sign_all([request], now, {0: grant})
        return outcome

    def _signer(self) -> Signing:
        payer = Payer(KEY, lambda: chain_view(NOW))
        seal, env = StateSeal([b"k" * 32]), self._env("signer")
        return self._close_later(Signing([payer], seal, Limits(), env, adopts_foreign_states=True))

    def _quota(self) -> Quota:
        return self._close_later(Quota(LIMIT, self._env("quota")))

    def _env(self, service: str) -> dict[str, str]:
        return dict(postgres_env(self.database.dsn(service), service, create_tables=True))

    def _close_later[A: EventSourced](self, application: A) -> A:
        self._opened.callback(application.close)
        return application


def entry(event: Event, position: int = 1) -> LogEntry:
    """An event as its reader gets it."""
    return LogEntry(
        epoch=1,
        position=position,
        previous_position=position - 1,
        subject=event.subject,
        at=NOW,
        event=event.model_dump(mode="json"),
    )


def _started[R](barrier: Barrier, call: Callable[[], R]) -> R | Exception:
    barrier.wait(DEADLINE_SECONDS)
    try:
        return call()
    except Exception as problem:  # noqa: BLE001 (it is what is looked at)
        return problem
