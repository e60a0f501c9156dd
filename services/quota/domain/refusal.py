"""Why an allowance is not granted.

AllowanceRefusal
├── SpendLimitReached   402: what was spent leaves no room, and nothing that is held will make any
└── RateUnknown         503: a limit is in dollars, and nobody has told what an ETH is worth
"""

from services.quota.domain.spending import Standing

RETRY_AFTER_SECONDS = 5  # about when held allowances may be free
AWAY = "Service Unavailable Error"


class AllowanceRefusal(Exception):  # noqa: N818 (an answer, not an error)
    """Quota may not grant; the status is what the paying client is answered (design §4.9)."""

    def __init__(self, status: int, reason: str, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.retry_after_seconds = retry_after


class SpendLimitReached(AllowanceRefusal):
    """`standing` says which limit, and when there is room again."""

    def __init__(self, standing: Standing, message: str) -> None:
        super().__init__(402, standing.reason, message)
        self.standing = standing


class RateUnknown(AllowanceRefusal):
    def __init__(self) -> None:
        super().__init__(503, "rate_unknown", AWAY, RETRY_AFTER_SECONDS)
