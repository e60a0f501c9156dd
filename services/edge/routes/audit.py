"""`/v1/audit`: who changed what, and why; put together from what each service keeps of its own."""

import asyncio
import heapq
from collections.abc import Sequence
from datetime import datetime
from itertools import islice
from typing import Annotated

from fastapi import APIRouter, Query

from contracts.audit import AuditPage, AuditRow, ReadAudit, read_audit_subject
from services.edge.problems import UNPROCESSABLE, FieldError, Refused
from services.edge.routes import cursor
from services.edge.routes import limit_models as models
from services.edge.routes.access import NEEDS_ADMINISTRATOR, TheParts
from services.edge.routes.models import AccountId
from shared.bus import ask

SERVICES = ("accounts", "quota", "metering")
POSITION_DIGITS_MAX = 18

router = APIRouter(prefix="/v1/audit", tags=["Audit"], dependencies=NEEDS_ADMINISTRATOR)

type OfAccount = Annotated[AccountId | None, Query(description="What concerns this account only.")]


@router.get("")
async def read_audit(
    parts: TheParts,
    account_id: OfAccount = None,
    limit: cursor.Limit = 50,
    cursor_: cursor.NamedCursor = None,
) -> models.AuditPage:
    """Read who changed what, and why, newest first. It is whole: if a service does not answer, 503."""
    befores = _positions(cursor_)
    pages = await asyncio.gather(
        *(
            ask(
                parts.client,
                ReadAudit(before=before, account_id=account_id, limit=limit),
                AuditPage,
                subject=read_audit_subject(service),
            )
            for service, before in zip(SERVICES, befores, strict=True)
        )
    )
    merged = heapq.merge(*(page.rows for page in pages), key=_newness, reverse=True)
    rows = list(islice(merged, limit))
    following = _following(rows, befores) if _has_more(pages, rows, limit) else None
    return models.AuditPage(rows=rows, next=following)


def _newness(row: AuditRow) -> tuple[datetime, str]:
    return row.at, row.service


def _has_more(pages: Sequence[AuditPage], rows: Sequence[AuditRow], limit: int) -> bool:
    return len(rows) < sum(len(page.rows) for page in pages) or any(len(page.rows) == limit for page in pages)


def _following(rows: Sequence[AuditRow], befores: Sequence[int | None]) -> str:
    """Where each service goes on: after the last of its rows that was shown."""
    shown = {row.service: row.position for row in rows}
    places = (shown.get(service, before) for service, before in zip(SERVICES, befores, strict=True))
    return cursor.encode(["" if place is None else str(place) for place in places])


def _positions(text: str | None) -> list[int | None]:
    if text is None:
        return [None for _ in SERVICES]
    places = cursor.decode(text, len(SERVICES))
    if not all(_is_position(place) for place in places):
        error = FieldError(field="query.cursor", message="not a cursor of this list")
        raise Refused(UNPROCESSABLE, "invalid_request", "query.cursor: not a cursor", errors=[error])
    return [int(place) if place else None for place in places]


def _is_position(place: str) -> bool:
    return not place or (place.isascii() and place.isdecimal() and len(place) <= POSITION_DIGITS_MAX)
