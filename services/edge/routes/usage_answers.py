"""Usage as it is answered: pages of rows in JSON, or the same rows as CSV."""

from collections.abc import Sequence
from datetime import datetime
from urllib.parse import urlencode

from fastapi import Request, Response
from pydantic import BaseModel, Field

from services.edge.routes.models import UsagePage, UsageRow
from shared.csv_text import csv_text, safe

CSV = "text/csv"
DESCRIBED = {
    "description": "A page. As CSV it has a header line, and the header `Link` names the next page.",
    "content": {CSV: {"schema": {"type": "string"}}},
}
MOMENT = "%Y-%m-%dT%H:%M:%SZ"


class MeterRow(BaseModel):
    """What the meter counted of one group in one window."""

    window_start: datetime | None = Field(description="null: from the first there is.")
    window_end: datetime | None = Field(description="Exclusive; null: to the last there is.")
    group: dict[str, str | None]
    value: str | None = Field(
        description="A decimal number: wei and counts whole, seconds with three places, each rounded down "
        "once; null: a maximum of nothing."
    )
    late: int = Field(
        description="Records of it that came more than an hour after their hour was over; "
        "of stream_seconds: seconds."
    )
    of: list[str] = Field(
        description="Where some of it is of hours that were closed when it came: their months, as `2026-06`."
    )


class MeterPage(BaseModel):
    meter: str
    usage: list[MeterRow]
    next: str | None = Field(description="Pass it as `cursor` for what follows; null at the end.")


type Page = UsagePage | MeterPage


def wants_csv(request: Request, chosen: str | None) -> bool:
    """What `format` says, else whether CSV is accepted and JSON is not named."""
    if chosen is not None:
        return chosen == "csv"
    accepted = request.headers.get("Accept", "")
    return CSV in accepted and "json" not in accepted


def as_csv(request: Request, page: Page, group_by: Sequence[str]) -> Response:
    groups = [safe(name) for name in group_by]
    if isinstance(page, MeterPage):
        header = ["window_start", "window_end", *groups, "value", "late", "of"]
        rows = [_meter_cells(row, group_by) for row in page.usage]
    else:
        header = [*groups, *PAYMENT_COLUMNS]
        rows = [_payment_cells(row, group_by) for row in page.usage]
    headers = {"Link": f'<{_next_page(request, page.next)}>; rel="next"'} if page.next else None
    return Response(csv_text(header, rows), headers=headers, media_type=CSV)


PAYMENT_COLUMNS = ("payments", "tickets", "cost_wei", "ev_wei", "fee_wei")


def _payment_cells(row: UsageRow, group_by: Sequence[str]) -> list[str]:
    return [*_groups(row.group, group_by), *(str(getattr(row, name)) for name in PAYMENT_COLUMNS)]


def _meter_cells(row: MeterRow, group_by: Sequence[str]) -> list[str]:
    bounds = [at.strftime(MOMENT) if at else "" for at in (row.window_start, row.window_end)]
    return [*bounds, *_groups(row.group, group_by), row.value or "", str(row.late), " ".join(row.of)]


def _groups(group: dict[str, str | None], group_by: Sequence[str]) -> list[str]:
    return [safe(group.get(name) or "") for name in group_by]


def _next_page(request: Request, cursor: str) -> str:
    asked = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
    return f"{request.url.path}?{urlencode([*asked, ('cursor', cursor)])}"
