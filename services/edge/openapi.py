"""The description of the HTTP surface, for `contracts/schemas`; it needs no environment."""

from typing import Any

from services.edge.api import make_app


def openapi() -> dict[str, Any]:
    return make_app(None).openapi()
