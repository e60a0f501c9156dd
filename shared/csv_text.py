"""Rows as CSV (RFC 4180) that spreadsheets open without calculating anything."""

import csv
import io
from collections.abc import Iterable, Sequence

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for the start of a formula


def safe(text: str) -> str:
    """A text that is no formula; numbers, which may begin with a minus, are not for this."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def csv_text(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A header line and the rows, as they are: texts from elsewhere have to be made `safe` before."""
    written = io.StringIO()
    writer = csv.writer(written)
    writer.writerow(header)
    writer.writerows(rows)
    return written.getvalue()
