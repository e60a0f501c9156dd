"""Cursors: where the next page begins, opaque to clients."""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from typing import Annotated

from fastapi import Query
from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from services.edge.problems import UNPROCESSABLE, FieldError, Refused

KEYS: TypeAdapter[list[str]] = TypeAdapter(list[str])

type Limit = Annotated[int, Query(ge=1, le=500, description="Rows of a page.")]
type NamedCursor = Annotated[
    str | None,
    Query(alias="cursor", max_length=1_000, description="`next` of the page before; none for the first."),
]


def encode(keys: Sequence[str]) -> str:
    return urlsafe_b64encode(to_json(list(keys))).decode().rstrip("=")


def decode(cursor: str | None, length: int) -> list[str]:
    """Return the keys in a cursor, as many as asked for; none for the first page."""
    if cursor is None:
        return []
    try:
        keys = KEYS.validate_json(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValidationError, ValueError, binascii.Error):
        keys = []
    if len(keys) != length or any("\x00" in key for key in keys):
        error = FieldError(field="query.cursor", message="not a cursor of this list")
        raise Refused(UNPROCESSABLE, "invalid_request", "query.cursor: not a cursor", errors=[error])
    return keys


def decode_one(cursor: str | None) -> str:
    return "".join(decode(cursor, 1))


def next_of[Row](rows: Sequence[Row], limit: int, keys: Callable[[Row], Sequence[str]]) -> str | None:
    """Return the cursor after a full page; a short one is the last."""
    return encode(keys(rows[-1])) if len(rows) == limit else None
