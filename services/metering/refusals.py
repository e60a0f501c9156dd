"""Payments that were refused, by session and reason: a fold of metering's log, beside the sessions.

The signer tells a refusal again only after a while, so `times` are tellings, not requests.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from psycopg import Cursor
from psycopg.rows import DictRow
from psycopg.sql import SQL, Identifier

from services.metering.domain.usage import Usage, moment

TABLE = "session_refusals"
KEY = ("account_id", "session_id", "reason")
CREATE_REFUSALS = """
CREATE TABLE IF NOT EXISTS {schema}.session_refusals (
    account_id text, session_id text, reason text, status integer NOT NULL, times bigint NOT NULL,
    first_at timestamptz NOT NULL, last_at timestamptz NOT NULL,
    PRIMARY KEY (account_id, session_id, reason));
"""
ADD_REFUSALS = """
INSERT INTO {table} AS t
SELECT * FROM unnest(%b::text[], %b::text[], %b::text[], %b::integer[], %b::bigint[],
    %b::timestamptz[], %b::timestamptz[])
ON CONFLICT (account_id, session_id, reason) DO UPDATE SET
    status = CASE WHEN excluded.last_at > t.last_at THEN excluded.status
        WHEN excluded.last_at = t.last_at THEN greatest(t.status, excluded.status) ELSE t.status END,
    times = t.times + excluded.times,
    first_at = least(t.first_at, excluded.first_at), last_at = greatest(t.last_at, excluded.last_at)
"""


@dataclass(slots=True)
class Refusals:
    """Of one session for one reason; the status is that of the last. Times in microseconds since 1970."""

    status: int
    times: int
    first_at: int
    last_at: int

    def add(self, status: int, at: int) -> None:
        self.status = max((self.last_at, self.status), (at, status))[1]
        self.times += 1
        self.first_at, self.last_at = min(self.first_at, at), max(self.last_at, at)


class RefusalTable:
    """Writes the table of this name; a rebuild has one of its own."""

    def __init__(self, table: Identifier) -> None:
        self._add = SQL(ADD_REFUSALS).format(table=table)

    def add(self, cursor: Cursor[DictRow], usage: Usage) -> None:
        if found := refusals_in(usage):
            rows = [
                (*key, each.status, each.times, moment(each.first_at), moment(each.last_at))
                for key, each in sorted(found.items())
            ]
            cursor.execute(self._add, _columns(rows), prepare=True)


def refusals_in(usage: Usage) -> dict[tuple[str, str, str], Refusals]:
    """By account, session and reason; batches of before there were any have no word of them."""
    found: dict[tuple[str, str, str], Refusals] = {}
    for after, account_id, session_id, status, reason in usage.get("refused", ()):
        at = usage["at"] + after
        known = found.get((account_id, session_id, reason))
        if known is None:
            found[account_id, session_id, reason] = Refusals(status, 1, at, at)
        else:
            known.add(status, at)
    return found


def _columns(rows: Iterable[tuple[object, ...]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]
