"""`/webhooks/livepeer/{hook}`: Livepeer Studio delivers what happens to an account's streams."""

from typing import Any

import structlog
from fastapi import APIRouter, Depends, Request
from fastapi.security import APIKeyHeader
from pydantic import BaseModel, Field

from contracts.webhooks_in import Delivery
from services.edge.hook_book import HooksUnknownError
from services.edge.problems import Refused
from services.edge.routes.access import TheParts
from services.edge.studio import Forged, Malformed, read_event, read_signature, to_delivery, verify
from shared.bus import ServiceUnavailableError

log = structlog.get_logger()

SIGNATURE = b"livepeer-signature"
CHALLENGE = {"WWW-Authenticate": "Livepeer-Signature"}
RETRY_SECONDS = 5
SIGNED = Depends(
    APIKeyHeader(
        scheme_name="LivepeerSignature",
        name="Livepeer-Signature",
        description="`t=<ms>,v1=<hex>`: HMAC-SHA256 of the raw body under the hook's secret.",
        auto_error=False,
    )
)
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "description": "An event, as Livepeer Studio sends it; at most 256 KiB.",
                }
            }
        },
    }
}

router = APIRouter(prefix="/webhooks", tags=["Hooks"])


class TakenDelivery(BaseModel):
    """The event is durable, and needs no repeat."""

    recorded: bool = Field(description="False: it is of no stream, and nothing was kept.")


@router.post("/livepeer/{hook}", dependencies=[SIGNED], openapi_extra=BODY)
async def take_delivery(hook: str, request: Request, parts: TheParts) -> TakenDelivery:
    """Take an event of Livepeer Studio. Events that came before are answered like new ones.

    503: it could not be made durable in time; Livepeer Studio delivers it again.
    """
    delivery = await _read(hook, request, parts)
    if delivery is None:
        return TakenDelivery(recorded=False)
    try:
        await parts.deliveries.record([delivery], len(delivery.body))
    except ServiceUnavailableError as problem:
        raise _later(str(problem)) from problem
    return TakenDelivery(recorded=True)


async def _read(hook_id: str, request: Request, parts: TheParts) -> Delivery | None:
    body, now = request.scope["body"], parts.clock.now()
    try:
        signature = read_signature(request.scope["head"].get(SIGNATURE))
        hook = parts.hooks.find(hook_id)
        # A hook that nobody has answers like one whose secret was not used.
        verify(signature, body, parts.hooks.secrets(hook, now) if hook else [])
        assert hook is not None
        request.scope["account_id"] = hook.account_id
        return to_delivery(read_event(body, signature, now), hook, body, now)
    except Forged as forged:
        raise Refused(401, "delivery_refused", str(forged), headers=CHALLENGE) from forged
    except Malformed as malformed:
        raise Refused(400, "malformed_delivery", str(malformed), errors=malformed.fields) from malformed
    except HooksUnknownError as problem:
        raise _later(str(problem)) from problem


def _later(problem: str) -> Refused:
    log.warning("delivery_waits", problem=problem)
    detail = "the delivery could not be recorded now; deliver it again"
    return Refused(503, "unavailable", detail, headers={"Retry-After": str(RETRY_SECONDS)})
