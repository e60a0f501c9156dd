"""A browser of the console in tests, and figures for its pages, as the services behind answer them."""

import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from contracts import limits, metered_streams, metering, signer
from contracts.message import Message, Refusal
from tests.unit.edge.edge_app import NOW, PUBLIC_URL, Answer, Edge
from tests.unit.edge.managing import managed

RATE = 3_000_000_000  # micro-dollars an ETH
COST = 1_700_000_000_007
FORM = "application/x-www-form-urlencoded"


def console(**options: Any) -> Edge:
    """An edge behind which one session and one stream of acme's user ann are known, and bob's beside."""
    edge = managed(**options)
    edge.bus.answers |= {
        limits.ReadLimits.subject: _limits,
        metering.QueryUsage.subject: _usage,
        metering.ListSessions.subject: lambda _: metering.SessionPage(
            sessions=[session_row("ann"), session_row("bob")]
        ),
        metered_streams.ListMeteredStreams.subject: lambda _: metered_streams.MeteredStreamPage(
            streams=[stream("ann"), stream("bob")]
        ),
        metered_streams.ReadMeteredStream.subject: _stream_view,
        signer.ReadSession.subject: _session_view,
    }
    return edge


def session_row(user: str, **changes: Any) -> metering.SessionRow:
    told = {
        "session_id": f"session-of-{user}",
        "account_id": "acme",
        "user_id": user,
        "app": "demo/echo",
        "job_type": "live",
        "orchestrator": "0x" + "12" * 20,
        "stream_id": f"stream-of-{user}",
        "opened_at": NOW - timedelta(minutes=2),
        "last_at": NOW - timedelta(seconds=1),
        "payments": 3,
        "tickets": 30,
        "cost_wei": COST,
        "closed": False,
    }
    return metering.SessionRow.model_validate({**told, **changes})


def stream(user: str, **changes: Any) -> metered_streams.MeteredStream:
    told = {
        "stream_id": f"stream-of-{user}",
        "account_id": "acme",
        "user_id": user,
        "user_from": "streams",
        "app": "demo/echo",
        "state": "running",
        "first_at": NOW - timedelta(minutes=2),
        "last_at": NOW,
        "elapsed_ms": 120_000,
        "source_ms": None,
        "differs": False,
        "too_late": 0,
    }
    return metered_streams.MeteredStream.model_validate({**told, **changes})


def _limits(asked: dict[str, Any]) -> Message:
    row = limits.LimitRow(name="spend_limit_wei", limit=10**16, used=COST, held=0, remaining=10**16 - COST)
    return limits.LimitsView(
        account_id=asked["account_id"],
        user_id=asked["user_id"],
        key_id=asked["key_id"],
        plan=None,
        time_zone="Europe/Berlin",
        own=limits.Limits(),
        effective=limits.Limits(),
        rows=[row] if asked["key_id"] is None else [],
        sessions=1,
        streams=1,
        suspended=False,
        micro_usd_per_eth=RATE,
    )


def _usage(asked: dict[str, Any]) -> Message:
    names = {"hour": "2031-05-17T07:00:00Z", "user": asked["user_id"] or "ann", "app": "demo/echo"}
    group: dict[str, str | None] = {key: names[key] for key in asked["group_by"]}
    row = metering.UsageRow(
        group=group, payments=3, tickets=30, cost_wei=COST, ev_wei=COST - 3, fee_wei=COST - 7
    )
    return metering.UsagePage(rows=[row])


def _stream_view(asked: dict[str, Any]) -> Message:
    stream_id = asked["stream_id"]
    user = stream_id.removeprefix("stream-of-")
    if asked["account_id"] != "acme" or user == stream_id:
        return Refusal(code="stream_not_found", message=f"there is no stream {stream_id}")
    run = metered_streams.StreamRun(
        told_by="streams", state="running", began_at=NOW, ended_at=None, elapsed_ms=120_000
    )
    return metered_streams.MeteredStreamView(
        stream=stream(user),
        runs=[run],
        sessions=[session_row(user)],
        session_count=1,
        payments=3,
        tickets=30,
        cost_wei=COST,
        orchestrator_swaps=0,
    )


def _session_view(asked: dict[str, Any]) -> Message:
    session_id = asked["session_id"]
    user = session_id.removeprefix("session-of-")
    if asked["account_id"] != "acme" or user == session_id:
        return Refusal(code="session_not_found", message=f"there is no session {session_id}")
    refused = signer.TimelineEntry(
        at=NOW, event="PaymentRefused", text="refused with 402 (spend_limit): all spent"
    )
    return signer.SessionView(
        session_id=session_id,
        account_id="acme",
        user_id=user,
        stream_id=None,
        key_id="0123456789AB",
        manifest_id="manifest",
        app="demo/echo",
        job_type="live",
        orchestrator="0x" + "12" * 20,
        recipient="0x" + "34" * 20,
        closed=False,
        payments=3,
        tickets=30,
        cost_wei=COST,
        allowance_left_wei=7,
        summary="Since then refused with 402 (spend_limit): all spent",
        timeline=[refused],
    )


@dataclass
class Visitor:
    """A browser: it keeps the cookie it is given, and sends forms as its pages have them."""

    edge: Edge
    cookies: dict[str, str] = field(default_factory=dict)

    async def get(self, path: str = "/usage", **headers: str) -> Answer:
        return self._kept(await self.edge.call("GET", path, headers={**self._cookie(), **headers}))

    async def post(
        self,
        path: str,
        fields: dict[str, str],
        *,
        origin: str | None = PUBLIC_URL,
    ) -> Answer:
        headers = {**self._cookie(), "content-type": FORM, **({"origin": origin} if origin else {})}
        body = urlencode(fields)
        return self._kept(await self.edge.call("POST", path, headers=headers, body=body))

    async def sign_in(self, credential: str, **options: Any) -> Answer:
        return await self.post("/sign-in", {"credential": credential}, **options)

    async def sign_out(self, **options: Any) -> Answer:
        page = await self.get()
        return await self.post("/sign-out", {"form_token": form_token(page)}, **options)

    def _cookie(self) -> dict[str, str]:
        pairs = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return {"cookie": pairs} if pairs else {}

    def _kept(self, answer: Answer) -> Answer:
        name, _, rest = answer.headers.get("set-cookie", "").partition("=")
        value, _, attributes = rest.partition(";")
        if "Max-Age=0" in attributes:
            self.cookies.pop(name, None)
        elif value:
            self.cookies[name] = value
        return answer


def form_token(page: Answer) -> str:
    found = re.search(r'name="form_token" value="([0-9a-f]+)"', page.text)
    assert found is not None, page
    return found[1]


def shows_form(page: Answer) -> bool:
    return 'name="credential"' in page.text
