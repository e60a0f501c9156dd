"""Events of signed tickets, as go-livepeer's signer puts them on Kafka."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5

# As Go's encoding/json writes what remote_signer.go and kafka.go make: the keys of a map are sorted.
WRITTEN = (
    '{"id":"%s","type":"create_signed_ticket","timestamp":"%d","gateway":"","data":{'
    '"app":"live-video-to-video/a-model","auth_id":"acme:ann:1","billable_secs":3.000012271,'
    '"computed_fee":"2764811","cost":"0.0333333333","current_time":"2031-05-17T07:59:59.123456789Z",'
    '"current_time_unix":%d,"manifest_id":"9a7f3c21","num_tickets":2,'
    '"orch_address":"0x00000000000000000000000000000000000000aB","orch_url":"https://orchestrator:8935",'
    '"pipeline":"live-video-to-video","pixels":82944339,"pm_session_id":"0x%064x",'
    '"previous_time":"2031-05-17T07:59:56.123444518Z","previous_time_unix":%d,"request_id":"0badcafe",'
    '"sequence_number":%d,"session_balance":"-0","session_id":"8c1d03aa","session_status":"%s"}}'
)


def event(number: int = 0, at: datetime | None = None, **changes: Any) -> dict[str, Any]:
    """The `number`th payment of a session, a millisecond after the one before; None takes a field away.

    Changes are of `data`, unless the value itself has such a field.
    """
    start = at or datetime(2031, 5, 17, 7, 30, tzinfo=UTC)
    ms = int(start.timestamp() * 1000) + number
    session_id = str(changes.get("session_id", ""))
    written = WRITTEN % (
        uuid5(NAMESPACE_URL, f"{session_id}/{number}"),
        ms,
        ms,
        7,
        ms - 3000,
        number,
        "continuing" if number else "new",
    )
    told: dict[str, Any] = json.loads(written)
    for name, value in changes.items():
        within = told if name in told else told["data"]
        within[name] = value
        if value is None:
            del within[name]
    return told


def lines(*events: Any) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in events)
