"""The buckets `rules` and `stops`: what is in them, and what quota's log says should be.

Read as an operator may, by the NATS library alone; their keys and values are written down once more.
"""

import json
from base64 import urlsafe_b64encode
from datetime import datetime
from typing import Any

import nats
from nats.aio.msg import Msg
from nats.js.api import DeliverPolicy

from tests.faults.checker.limit_rows import Scope
from tests.faults.checker.terms import Terms

BUCKETS = ("rules", "stops")
SILENCE_SECONDS = 5.0  # a writer names its epoch four times a second
RULES = {
    "payments_per_second",
    "ticket_ev_max_wei",
    "ticket_face_value_max_wei",
    "prices_max",
    "job_types",
    "apps",
    "capabilities",
    "recipients",
    "networks",
    "expires_at",
}


async def read_entries(nats_url: str) -> dict[str, bytes]:
    """The entries of both buckets. Raises nats.errors.Error, or TimeoutError while nobody writes them."""
    client = await nats.connect(nats_url, allow_reconnect=False, connect_timeout=2)
    try:
        found: dict[str, bytes] = {}
        for bucket in BUCKETS:
            found.update(await _read(client, bucket))
        return found
    finally:
        await client.close()


async def _read(client: Any, bucket: str) -> dict[str, bytes]:
    """Up to a heartbeat: whatever was put before it has come by then."""
    stream = client.jetstream()
    last = (await stream.stream_info(f"KV_{bucket}")).state.last_seq
    subscription = await stream.subscribe(
        f"$KV.{bucket}.>",
        stream=f"KV_{bucket}",
        ordered_consumer=True,
        deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
    )
    entries: dict[str, bytes] = {}
    while True:
        message = await subscription.next_msg(timeout=SILENCE_SECONDS)
        key = message.subject.removeprefix(f"$KV.{bucket}.")
        if key == "heartbeat" and message.metadata.sequence.stream >= last:
            epoch = json.loads(message.data)["epoch"]
            prefix = f"{epoch}."
            kept = {
                name.removeprefix(prefix): value for name, value in entries.items() if name.startswith(prefix)
            }
            kept.pop("complete")
            return kept
        if _is_deleted(message):
            entries.pop(key, None)
        else:
            entries[key] = message.data


def _is_deleted(message: Msg) -> bool:
    return "KV-Operation" in (message.headers or {})


def expected(terms: Terms) -> dict[str, Any]:
    """What the entries should say, by key."""
    found: dict[str, Any] = {}
    for name, plan in terms.plans.items():
        rules = {"rules": "limits", "user_rules": "user_limits", "key_rules": "key_limits"}
        found[f"plan.{name}"] = _some({of: _rules(plan[limits]) for of, limits in rules.items()})
    for scope in {*terms.own, *map(Scope, terms.plan_of)}:
        plan_name = terms.plan_of.get(scope.account_id) if scope.level == "account" else None
        found[_key(scope)] = _some({"rules": _rules(terms.own.get(scope, {})), "plan": plan_name})
    for (what, value), stop in terms.stops.items():
        said = {name: stop[name] for name in ("what", "value", "reason", "actor")}
        found[f"stop.{what}.{_encoded(value)}"] = _some({**said, "expires_at": _moment(stop["expires_at"])})
    return found


def said(entries: dict[str, bytes]) -> dict[str, Any]:
    """The same of entries that were read."""
    return {key: _content(json.loads(value)) for key, value in entries.items()}


def _content(value: dict[str, Any]) -> dict[str, Any]:
    if value.get("kind") == "stop":
        said = {name: value[name] for name in ("what", "value", "reason", "actor")}
        return _some({**said, "expires_at": _moment(value["expires_at"])})
    rules = {of: _rules(value.get(of) or {}) for of in ("rules", "user_rules", "key_rules")}
    return _some({**rules, "plan": value.get("plan")})


def _rules(limits: dict[str, Any]) -> dict[str, Any]:
    """Those that signers and edges check, as text or numbers that can be compared."""
    return {
        name: _moment(value) if name == "expires_at" else str(value)
        for name, value in limits.items()
        if value is not None and name in RULES
    }


def _moment(value: str | int | None) -> float | None:
    return datetime.fromisoformat(value).timestamp() if isinstance(value, str) else value


def _some(content: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if value not in (None, {})}


def _key(scope: Scope) -> str:
    if scope.level == "account":
        return f"account.{scope.account_id}"
    unique = _encoded(scope.unique) if scope.level == "user" else scope.unique
    return f"{scope.level}.{scope.account_id}.{unique}"


def _encoded(text: str) -> str:
    return urlsafe_b64encode(text.encode()).decode().rstrip("=") or "_"
