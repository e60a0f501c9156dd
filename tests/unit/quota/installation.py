"""An installation of go-livepeer that asks `/authorize` and tells what it signed; quota in memory."""

from datetime import datetime

from contracts.message import LogEntry
from contracts.signed_tickets import SignedPayment, SignedTicketsRecorded
from contracts.stream_starts import AuthorizePayment
from services.quota.allowances import AllowanceRow
from services.quota.application import Quota
from services.quota.authorizing import Authorizing
from services.quota.correcting import Correcting
from services.quota.domain.budget import Budget
from services.quota.domain.foreign import PREFIX
from services.quota.domain.limit_set import Author, Scope
from services.quota.domain.limits import Limits
from services.quota.domain.spending import Rate
from services.quota.domain.sub_budget import SubBudget
from services.quota.limiting import Limiting
from shared.money import MicroUsd, Wei
from tests.unit.quota.ledger import NOW, nothing

ANN = Scope("acme", user_id="ann")
KEY_ID = "AbCdEfGhIjKl"
AUTHOR = Author("admin", "test")
USD_PER_ETH = Rate(MicroUsd(3_000_000_000), "test", NOW)


class Installation:
    """A go-livepeer that asks `/authorize`, and what quota makes of it."""

    def __init__(self, limit: int = 10_000, **user_limits: int) -> None:
        self.quota = Quota(Wei(limit))
        self.authorizing = Authorizing(self.quota, idle_seconds=120)
        self.correcting = Correcting(self.quota)
        self.limiting = Limiting(self.quota)
        if user_limits:
            self.limiting.set_limits(ANN, Limits(**user_limits), AUTHOR, NOW)  # type: ignore[arg-type]
        self.now = NOW
        self.position = 0

    def ask(self, sequence: int, balance: str, state: str = "s") -> tuple[int, int]:
        """A live job of 3 wei a second; the first payment covers ten seconds, each further one ten more."""
        asked = AuthorizePayment(
            account_id="acme",
            user_id="ann",
            key_id=KEY_ID,
            state_id=state,
            sequence=sequence,
            balance=balance,
            price_per_unit=3,
            pixels_per_unit=1,
            job_type="live",
            last_update_ns=(1_000_000_000 + 10 * sequence) * 10**9,
        )
        answer = self.authorizing.authorize(asked, self.now)
        return answer.status, answer.estimate

    def tell(self, *fees: tuple[int, int], state: str = "s", at: datetime | None = None) -> None:
        """Events of these payments: sequence and fee."""
        payments = [
            SignedPayment(user_id="ann", state_id=state, sequence=number, fee=fee, signed_at=at or self.now)
            for number, fee in fees
        ]
        self.hear(SignedTicketsRecorded(account_id="acme", payments=payments).model_dump(mode="json"))

    def hear(self, event: dict[str, object]) -> None:
        self.position += 1
        entry = LogEntry(
            epoch=1,
            position=self.position,
            previous_position=self.position - 1,
            subject=SignedTicketsRecorded.subject,
            at=self.now,
            event=event,
        )
        self.correcting.follow_tickets([entry], nothing)

    def settle(self, state: str = "s") -> None:
        """What the sweep does with a session that is idle."""
        session_id = PREFIX + state
        row = AllowanceRow.of("acme", session_id, self.budget.sessions[session_id], self.now)
        self.authorizing._settle(row, self.now)  # noqa: SLF001

    @property
    def budget(self) -> Budget:
        return self.quota.budget("acme", self.now)

    @property
    def ann(self) -> SubBudget:
        found: SubBudget = self.quota.repository.get(SubBudget.create_id(*ANN.ids))
        return found

    @property
    def stand(self) -> tuple[int, int]:
        return self.budget.held, self.budget.spent
