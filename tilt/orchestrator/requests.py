"""What handlers ask of a request: its payment, its JSON, and at which of our addresses it came in."""

import json
from typing import Any

from aiohttp import web

from tilt.orchestrator.orchestrator import Orchestrator
from tilt.orchestrator.refusals import RefusedError

PAYER_HEADER = "Livepeer-Payer-Address"
PAYMENT_HEADER = "Livepeer-Payment"
SEGMENT_HEADER = "Livepeer-Segment"


def payment_headers(request: web.Request) -> tuple[str, str]:
    headers = request.headers
    return headers.get(PAYMENT_HEADER, ""), headers.get(SEGMENT_HEADER, "")


def is_payment(request: web.Request) -> bool:
    return any(payment_headers(request))


def origin_of(request: web.Request, orchestrator: Orchestrator) -> str:
    """Tell the origin a client used, so that it gets URLs that it can reach the same way."""
    if request.secure and orchestrator.tls_url is not None:
        return orchestrator.tls_url
    return orchestrator.url


async def json_object(request: web.Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.read())
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, f"invalid JSON: {error}") from error
    if not isinstance(body, dict):
        raise RefusedError(400, "expected a JSON object")
    return body
