"""Quota in memory with a funded pool, and what other services say to it."""

from datetime import UTC, datetime, timedelta
from typing import Any

from contracts.deposit_watcher import FundsObserved
from contracts.message import Event, LogEntry
from contracts.signer import SessionClosed
from services.quota.application import Answer, Quota
from services.quota.domain.budget import Budget
from services.quota.domain.granting import Ask
from services.quota.domain.limit_set import Author, Scope
from services.quota.domain.limits import Limits
from services.quota.domain.pool import Pool
from services.quota.domain.refusal import AllowanceRefusal
from services.quota.limiting import Limiting
from services.quota.stopping import Stopping
from shared.money import Wei
from tests.told_payments import payment_signed

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PAYER, OTHER = "0x" + "11" * 20, "0x" + "22" * 20
RECIPIENT = "0x" + "33" * 20
LIMIT = Wei(1000)
AUTHOR = Author("admin", "test")


def nothing(_: Any) -> None:
    """An effect, where there is no transaction."""


class Ledger:
    """Quota with a funded pool, and what other services say to it."""

    def __init__(self, deposit: int = 10**6, **defaults: Any) -> None:
        self.now = NOW
        self.quota = Quota(LIMIT, **defaults)
        self.limiting, self.stopping = Limiting(self.quota), Stopping(self.quota)
        self.position = 0
        self.fund(PAYER, deposit)

    def fund(self, payer: str, deposit: int) -> None:
        self.hear(
            FundsObserved(
                payer=payer,
                deposit=deposit,
                reserve=10**6,
                withdraw_round=0,
                pool_size=100,
                l1_block=1,
                block_hash="0x",
            ),
            self.quota.follow_funds,
        )

    def hear(self, event: Event, follow: Any) -> None:
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

    def ask(
        self,
        session: str = "s1",
        number: int = 1,
        *,
        needed: int = 100,
        wanted: int = 0,
        payer: str = PAYER,
        **who: Any,
    ) -> Answer:
        """`who`: user_id, key_id, token_id."""
        wish = Ask(
            account_id="account-1",
            session_id=session,
            number=number,
            payer=payer,
            needed=Wei(needed),
            wanted=Wei(wanted or needed),
            **{"key_id": "key-1", **who},
        )
        [answer] = self.quota.grant_all([wish], self.now)
        return answer

    def refusal(
        self, session: str = "s1", number: int = 1, *, needed: int = 100, payer: str = PAYER, **who: Any
    ) -> AllowanceRefusal:
        answer = self.ask(session, number, needed=needed, payer=payer, **who)
        assert isinstance(answer, AllowanceRefusal)
        return answer

    def limit(self, scope: Scope | None = None, **limits: Any) -> None:
        """Replace the limits of a scope, the account's if none is named."""
        self.limiting.set_limits(scope or Scope("account-1"), Limits(**limits), AUTHOR, self.now)

    def pass_time(self, **parts: float) -> None:
        self.now += timedelta(**parts)

    def paid(
        self, session: str, cost: int, *, made: int = 10, payer: str = PAYER, recipient: str = RECIPIENT
    ) -> None:
        payment = payment_signed(
            session, cost, account_id="account-1", recipient=recipient, payer=payer, creation_round=made
        )
        self.hear(payment, self.quota.follow_spend)

    def closed(self, session: str, spent: int, *, ask_number: int = 1) -> None:
        closing = SessionClosed(
            account_id="account-1", session_id=session, spent=spent, ask_number=ask_number
        )
        self.hear(closing, self.quota.follow_spend)

    @property
    def budget(self) -> Budget:
        return self.quota.budget("account-1", self.now)

    @property
    def pool(self) -> Pool:
        return self.quota.pool(PAYER)

    def stand(self) -> tuple[int, int, int]:
        [row] = self.limiting.view(Scope("account-1"), self.now).rows
        return self.budget.held, self.budget.spent, row.remaining
