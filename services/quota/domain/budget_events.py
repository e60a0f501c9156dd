"""What is stored of a budget."""

from datetime import datetime

from eventsourcing.domain import Aggregate

from shared.money import MicroUsd, Wei


class BudgetEvents:
    class Event(Aggregate.Event):
        TOPIC = "quota.budget.event"

    class Opened(Event, Aggregate.Created):
        TOPIC = "quota.budget_opened"
        account_id: str
        spend_limit: Wei

    class SpendLimitSet(Event):
        TOPIC = "quota.spend_limit_set"
        spend_limit: Wei

    class CreditGranted(Event):
        TOPIC = "quota.credit_granted"
        grant_id: str
        kind: str
        amount: MicroUsd
        priority: int
        expires: int | None  # seconds since 1970
        actor: str
        reason: str

    class CreditVoided(Event):
        TOPIC = "quota.credit_voided"
        grant_id: str
        actor: str
        reason: str

    class AllowanceGranted(Event):
        TOPIC = "quota.allowance_granted"
        session_id: str
        number: int
        amount: Wei
        key_id: str
        payer: str
        user_id: str | None = None
        token_id: str | None = None
        ends_at: datetime | None = None  # when a window turns, or a grant of credit expires
        counted_by: list[str] | None = None  # which sub-budgets count it: user, key, token

    class SpendRecorded(Event):
        TOPIC = "quota.spend_recorded"
        spends: dict[str, Wei]  # by session
        time_zone: str = "UTC"
        micro_usd_per_eth: int = 0  # none was known
        rate_source: str = ""
        rate_at: datetime | None = None

    class SpendRecovered(Event):
        """Tickets that a restore had lost from the signer's log: spent, and held by no session."""

        TOPIC = "quota.spend_recovered"
        spends: dict[str, Wei]  # by session
        time_zone: str = "UTC"
        micro_usd_per_eth: int = 0
        rate_source: str = ""
        rate_at: datetime | None = None

    class EstimatesCorrected(Event):
        """Payments of a signer that is not ours were told: what they cost counts, at their time.

        `freed`: by number of the ask, what had been held for them. `spent` is less than nothing where
        an estimate had counted for more.
        """

        TOPIC = "quota.estimates_corrected"
        session_id: str
        freed: dict[str, Wei]
        spent: Wei
        counted_at: datetime
        time_zone: str
        micro_usd_per_eth: int = 0
        rate_source: str = ""
        rate_at: datetime | None = None

    class AllowanceFreed(Event):
        TOPIC = "quota.allowance_freed"
        session_id: str
        amount: Wei
        ask_number: int  # grants up to it are given back, later ones stay

    class LeasesTakenBack(Event):
        """Limits changed: what sessions hold is asked back, of all or of those of one of these."""

        TOPIC = "quota.leases_taken_back"
        user_id: str | None
        key_id: str | None
        token_id: str | None

    class LimitReached(Event):
        TOPIC = "quota.limit_reached"
        spend_limit: Wei
        limit: str = "spend_limit_wei"
        window: int = 0  # when it ends, in seconds since 1970

    class LimitNeared(Event):
        TOPIC = "quota.limit_neared"
        limit: str
        percent: int
        window: int

    class Suspended(Event):
        TOPIC = "quota.budget_suspended"
        reason: str

    class Resumed(Event):
        TOPIC = "quota.budget_resumed"

    class KeyRevoked(Event):
        TOPIC = "quota.key_revoked"
        key_id: str
