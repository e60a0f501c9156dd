"""Who changed what, and why: each service that keeps such changes answers for its own."""

from datetime import datetime
from typing import Any, ClassVar, Literal

from pydantic import Field

from contracts.message import Command, Message


class ReadAudit(Command):
    """Newest first; sent to `read_audit_subject(service)`."""

    subject: ClassVar[str] = "cmd.*.read_audit.v1"

    before: int | None = None  # the position of the row to go on from; None: the newest
    account_id: str | None = None
    limit: int = Field(default=50, ge=1, le=500)


class AuditRow(Message):
    """`action` is the event's name, `details` what it says beside the actor and the reason."""

    service: str
    position: int
    at: datetime
    action: str
    account_id: str | None
    actor: str
    reason: str
    details: dict[str, Any]


class AuditPage(Message):
    kind: Literal["audit_page"] = "audit_page"
    rows: list[AuditRow]


def read_audit_subject(service: str) -> str:
    return f"cmd.{service}.read_audit.v1"
