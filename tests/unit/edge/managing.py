"""What answers the edge's commands about limits in tests: fixed views, as the services give them."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

from contracts import accounts, audit, limits
from contracts import stream_starts as streams
from contracts.credit import CreditRow, CreditView, GrantCredit, ReadCredit, VoidCredit
from contracts.message import Message, Refusal
from contracts.stops import LiftStops, ListStops, SetStops, StopPage, StopView
from tests.unit.edge.edge_app import NOW, Answer, Edge

ADMIN_KEY = "an-administrators-key-of-these-tests"
ADMIN_HASH = hashlib.sha256(ADMIN_KEY.encode()).hexdigest()
ACTOR = f"admin:{ADMIN_HASH[:8]}"
HOOK_SECRET = "a-secret-of-hooks"
FULL_HOUR = datetime(2031, 5, 17, 9, tzinfo=UTC)
ROWS = [
    limits.LimitRow(name="spend_limit_wei", limit=2**70, used=3, held=1, remaining=2**70 - 4),
    limits.LimitRow(
        name="spend_per_hour_micro_usd", limit=900, used=850, held=50, remaining=0, resets_at=FULL_HOUR
    ),
]
HOUR_FIELDS = ('"spend_per_hour_micro_usd";q=900;w=3600', '"spend_per_hour_micro_usd";r=0;t=3600')


def managed(**options: Any) -> Edge:
    """An edge with an administrator, and everything answered that `/v1` asks about limits."""
    hooks = frozenset({hashlib.sha256(HOOK_SECRET.encode()).hexdigest()})
    edge = Edge(administrators=frozenset({ADMIN_HASH}), hook_secrets=hooks, **options)
    edge.bus.answers |= {
        accounts.GetAccount.subject: _account,
        accounts.FindIdentity.subject: lambda asked: _identity(edge, asked["key_id"]),
        limits.SetLimits.subject: _view,
        limits.ReadLimits.subject: _view,
        limits.EndToken.subject: _view,
        limits.AssignPlan.subject: _view,
        limits.SetTimeZone.subject: _view,
        limits.SetPlan.subject: lambda asked: limits.PlanView.model_validate(
            {**asked, "kind": "plan", "version": 3}
        ),
        limits.ListPlans.subject: lambda _: limits.PlanPage(
            plans=[limits.PlanView(name="pro", plan=limits.Plan(rank=7), version=2)]
        ),
        GrantCredit.subject: _credit,
        VoidCredit.subject: _credit,
        ReadCredit.subject: _credit,
        SetStops.subject: _stops,
        ListStops.subject: lambda asked: StopPage(stops=[_stop("app", "demo")][: asked["limit"]]),
        LiftStops.subject: lambda _: StopPage(stops=[]),
        streams.BeginStream.subject: _begun,
        streams.BeatStream.subject: _begun,
        streams.EndStream.subject: lambda asked: _stream(asked["stream_id"], ended_because="ended"),
        streams.ListStreams.subject: lambda asked: streams.StreamPage(
            streams=[_stream(f"stream-{number}") for number in range(asked["limit"])]
        ),
    }
    return edge


async def manage(edge: Edge, method: str, path: str, body: object = None, **headers: str) -> Answer:
    return await send(edge, method, path, ADMIN_KEY, body, **headers)


async def send(
    edge: Edge, method: str, path: str, credential: str | None, body: object = None, **headers: str
) -> Answer:
    """Send JSON; underscores in names of headers are hyphens."""
    data = b"" if body is None else json.dumps(body).encode()
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return await edge.call(
        method, path, credential=credential, body=data, headers={"content-type": "application/json", **sent}
    )


def asked(edge: Edge, command: type[Any]) -> list[dict[str, Any]]:
    """The commands of a kind, in their order."""
    return [data for subject, data in edge.bus.asked if subject == command.subject]


def _account(data: dict[str, Any]) -> Message:
    if data["account_id"] != "acme":
        return Refusal(code="account_not_found", message=f"there is no account {data['account_id']}")
    return accounts.AccountView(account_id="acme", status="open", opened_at=NOW)


def _identity(edge: Edge, key_id: str) -> Message:
    entry = edge.identities.get(key_id)
    if entry is None:
        return Refusal(code="key_not_found", message=f"there is no key {key_id}")
    return accounts.Identity.model_validate_json(entry)


def _view(data: dict[str, Any]) -> Message:
    scope = {name: data.get(name) for name in limits.Scoped.model_fields}
    return limits.LimitsView.model_validate(
        {
            **scope,
            "plan": data.get("plan", "pro"),
            "time_zone": data.get("time_zone", "UTC"),
            "own": data.get("limits", {}),
            "effective": {"spend_limit_wei": 2**70, "expires_at": "2031-06-01T00:00:00Z"},
            "rows": [row.model_dump() for row in ROWS],
            "sessions": 2,
            "streams": 1,
            "suspended": False,
            "version": 3 if "limits" in data else 2,
            "most_micro_usd": 5 if scope["user_id"] is scope["key_id"] is None else None,
        }
    )


def _credit(data: dict[str, Any]) -> Message:
    grant = CreditRow(
        grant_id=data.get("grant_id", "grant-1"),
        credit=data.get("credit", "prepaid"),
        amount_micro_usd=data.get("amount_micro_usd", 7),
        left_micro_usd=6,
        priority=data.get("priority", 100),
        expires_at=None,
    )
    return CreditView(
        account_id=data["account_id"],
        grants=[grant],
        prepaid_micro_usd=6,
        owed_micro_usd=0,
        credit_limit_micro_usd=None,
    )


def _stop(what: Any, value: str, reason: str = "unspecified", actor: str = ACTOR) -> StopView:
    return StopView(what=what, value=value, reason=reason, actor=actor, set_at=NOW, expires_at=None)


def _stops(data: dict[str, Any]) -> Message:
    told = [_stop(stop["what"], stop["value"], data["reason"], data["actor"]) for stop in data["stops"]]
    return StopPage(stops=told)


def _begun(data: dict[str, Any]) -> Message:
    return streams.StreamBegun(
        stream_id=data["stream_id"],
        account_id=data["account_id"],
        user_id=data["user_id"],
        begun_at=NOW,
        lease_ends_at=FULL_HOUR,
        rows=ROWS,
    )


def _stream(stream_id: str, **changes: Any) -> streams.StreamView:
    view = {
        "stream_id": stream_id,
        "account_id": "acme",
        "user_id": None,
        "key_id": None,
        "app": "",
        "job_type": "",
        "begun_at": NOW,
        "lease_ends_at": None,
    }
    return streams.StreamView.model_validate({**view, **changes})


def audit_page(*rows: tuple[str, int, int]) -> audit.AuditPage:
    """Rows of service, position and minute."""
    return audit.AuditPage(
        rows=[
            audit.AuditRow(
                service=service,
                position=position,
                at=NOW.replace(minute=minute),
                action="limits_set",
                account_id="acme",
                actor=ACTOR,
                reason="unspecified",
                details={},
            )
            for service, position, minute in rows
        ]
    )
