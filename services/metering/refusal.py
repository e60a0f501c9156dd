"""Queries that make no sense, and what they say read."""

from datetime import UTC, datetime

from shared.refusal import Refused

YEARS = range(1971, 2900)  # of what can be asked for: far from where calendars end


class BadQuery(Refused):
    code = "bad_query"


def plain(text: str) -> str:
    """Text as PostgreSQL takes it; raises BadQuery."""
    if "\0" in text:
        raise BadQuery("text with a zero byte")
    return text


def moment(text: str) -> datetime:
    """A time in UTC, in YEARS; raises BadQuery."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError as problem:
        raise BadQuery("no time where one is due") from problem
    if at.tzinfo is None or at.year not in YEARS:
        raise BadQuery("a time without a time zone, or far away")
    return at.astimezone(UTC)
