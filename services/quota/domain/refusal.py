"""Why an allowance is not granted."""

RETRY_AFTER_SECONDS = 5  # about when held allowances may be free


class AllowanceRefusal(Exception):  # noqa: N818 (an answer, not an error)
    """Quota may not grant; the status is what the paying client is answered (design §4.9)."""

    def __init__(self, status: int, reason: str, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.retry_after_seconds = retry_after
