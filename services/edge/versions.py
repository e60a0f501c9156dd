"""`ETag` and `If-Match` (RFC 9110): whoever changes what he has read overwrites nobody else's change.

The tag is the version of what is set, not of the whole answer: what is used of it changes all the time.
"""

import re
from typing import Annotated, Any

from fastapi import Header
from pydantic import BeforeValidator, WithJsonSchema

from services.edge.problems import Problem

# A proxy that compresses answers makes our tags weak ones.
TAG = re.compile(r'(?:W/)?"([0-9]{1,18})"')

# How answers that have one are described, and the refusal.
DESCRIBED: dict[str, Any] = {
    "ETag": {"description": "The version of what is set.", "schema": {"type": "string", "examples": ['"3"']}}
}
REFUSALS: dict[int | str, dict[str, Any]] = {
    412: {"model": Problem, "description": "It was changed meanwhile (`limits_changed`)."}
}


def tag(version: int | None) -> dict[str, str]:
    return {"ETag": f'"{version}"'} if version is not None else {}


def _version(header: object) -> int:
    found = TAG.fullmatch(header) if isinstance(header, str) else None
    if found is None:
        raise ValueError("one ETag of an answer is expected")
    return int(found[1])


type ExpectedVersion = Annotated[
    int | None,
    BeforeValidator(_version),
    WithJsonSchema({"type": "string", "examples": ['"3"']}),
    Header(
        alias="If-Match",
        description="The `ETag` that was read: if it is another now, nothing is changed.",
    ),
]
