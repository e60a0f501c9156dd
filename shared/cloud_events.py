"""The log as CloudEvents 1.0, in which a payment is what go-livepeer's signer tells of one.

A PaymentSigned is a `create_signed_ticket` with the keys and types of go-livepeer's event, so that
what meters that meters ours. A payment that a restore had lost, and that is told again, has the id it
had first: whoever got it then drops it as a repeat. What our log does not know of a payment is told
as the zero of its type (docs/events.md).
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

from contracts.public_log import PublicEvent
from contracts.signer import PaymentSigned, TicketRecovered
from shared.keccak import checksum_address
from shared.money import float_string

BATCH_MEDIA_TYPE = "application/cloudevents-batch+json"
SOURCE = "clearinghouse"
SIGNED_TICKET = "create_signed_ticket"
PAYMENTS = (PaymentSigned.__name__, TicketRecovered.__name__)
PIPELINES = {"lv2v": "live-video-to-video", "live": "live", "fixed": "fixed"}
PIXELS_PER_SECOND = 1280 * 720 * 30  # what an lv2v job bills for
UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def cloud_event(event: PublicEvent) -> dict[str, Any]:
    """One event in the JSON format of CloudEvents; `data` is what the contract has, but for payments."""
    if event.type in PAYMENTS:
        return _signed_ticket(event)
    named = {"subject": event.account_id} if event.account_id else {}
    return {
        "specversion": "1.0",
        "id": event.id,
        "source": SOURCE,
        "type": f"clearinghouse.{event.type}.v{event.version}",
        **named,
        "time": _rfc3339(event.at),
        "datacontenttype": "application/json",
        "data": event.data,
    }


def _signed_ticket(event: PublicEvent) -> dict[str, Any]:
    payment, at = event.data, _signed_at(event)
    auth_id = f"{payment['account_id']}:{payment['user_id'] or ''}"
    is_again = event.type == TicketRecovered.__name__ and event.causation is not None
    return {
        "specversion": "1.0",
        "id": event.causation if is_again else event.id,
        "source": SOURCE,
        "type": SIGNED_TICKET,
        "subject": auth_id,
        "time": _rfc3339(at),
        "datacontenttype": "application/json",
        "data": _data(payment, auth_id, at),
    }


def _signed_at(event: PublicEvent) -> datetime:
    told = event.data.get("happened_at")
    return datetime.fromisoformat(told) if told else event.at


def _data(payment: Mapping[str, Any], auth_id: str, at: datetime) -> dict[str, Any]:
    """Go's map: the keys in their alphabetical order (protocol §8.3)."""
    job_type, units = payment["job_type"], payment["units"]
    price = Fraction(payment["price_per_unit"], payment["pixels_per_unit"])
    random_hash = payment.get("recipient_rand_hash", "")
    return {
        "app": payment["app"],
        "auth_id": auth_id,
        "billable_secs": _seconds(job_type, units),
        "computed_fee": float_string(units * price, 0),
        "cost": float_string(price, 10),
        "current_time": _rfc3339(at),
        "current_time_unix": (at - UNIX_EPOCH) // timedelta(milliseconds=1),
        "manifest_id": "",
        "num_tickets": payment["tickets"],
        "orch_address": "0x" + checksum_address(payment["recipient"].removeprefix("0x").lower()),
        "orch_url": "",
        "pipeline": PIPELINES.get(job_type, ""),
        "pixels": units if job_type == "lv2v" else 0,
        "pm_session_id": f"0x{random_hash}" if random_hash else "",
        "previous_time": "",
        "previous_time_unix": 0,
        "request_id": "",
        "sequence_number": 0,
        "session_balance": "0",
        "session_id": payment["session_id"],
        "session_status": "",
    }


def _seconds(job_type: str, units: int) -> float:
    if job_type == "lv2v":
        return units / PIXELS_PER_SECOND
    return float(units) if job_type == "live" else 0.0


def _rfc3339(at: datetime) -> str:
    """As Go writes nanoseconds: no zeros at the end."""
    at = at.astimezone(UTC)
    fraction = f".{at.microsecond:06}".rstrip("0") if at.microsecond else ""
    return f"{at:%Y-%m-%dT%H:%M:%S}{fraction}Z"


def batch(events: Sequence[PublicEvent]) -> list[dict[str, Any]]:
    return [cloud_event(event) for event in events]
