"""What a payment that is not signed is answered with."""


class BadRequestError(Exception):
    """The request cannot be read or makes no sense; the message names the field. Answered with 400."""


class PaymentRefusal(Exception):  # noqa: N818 (an answer, not an error)
    """A payment that may not be signed: what the client is answered, and why."""

    def __init__(
        self, status: int, reason: str, message: str, retry_after_seconds: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds
        self.orchestrator_url: str | None = None  # where to refresh, with 480


def refused(status: int, reason: str, message: str) -> PaymentRefusal:
    return PaymentRefusal(status, reason, message)


def unavailable(reason: str) -> PaymentRefusal:
    """Not the client's fault; asking again may help."""
    return refused(503, reason, "Service Unavailable Error")


def refresh_session() -> PaymentRefusal:
    """The client has to get new params from its orchestrator and come again."""
    return refused(480, "refresh_session", "refresh session for remote signer")
