"""What each operation of `/v1` and of the wire is called with, to name what is another account's."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from tests.acceptance.foreign_calls import Call, Names, change, cursor, of_account, pages, query, vars_of
from tests.acceptance.system import Account
from tests.told_tickets import event

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
MADE_UP_SECRET = "a" * 38
MADE_UP_TOKEN = "0123456789Ab"  # tokens are nobody's but their account's: any id is taken
LETTER = "metering-record-usage:1:3"  # letters are the house's, and nobody else is told of them

type Cases = Mapping[str, Callable[[Names, Account], Sequence[Call]]]


def usage(names: Names, mine: Account) -> list[Call]:
    sums = {"group_by": ["account", "user"], "user_id": names.user_id}
    places = cursor(names.account_id, names.user_id)
    own = f"/v1/accounts/{mine.account_id}/usage"
    foreign = f"/v1/accounts/{names.account_id}/usage"
    metered = {"meter": "tickets", "group_by": ["key", "user"], "key_id": names.key_id}
    return [
        *of_account(names, mine, "/usage"),
        Call("GET", query(foreign, **metered)),
        Call("GET", query(own, **metered, user_id=names.user_id), answers_own=True),
        Call("GET", query(own, meter="tickets", filter=f"account:{names.account_id}"), answers_own=True),
        Call(
            "GET",
            query(own, meter="tickets", group_by="user", cursor=cursor(names.user_id)),
            answers_own=True,
        ),
        Call("GET", query(foreign, **sums)),
        Call("GET", query(own, **sums), answers_own=True),
        Call("GET", query(own, **sums, cursor=places, limit=1), answers_own=True),
    ]


def session(names: Names, mine: Account, path: str = "") -> list[Call]:
    found = f"/v1/sessions/{names.session_id}{path}"
    return [
        Call("GET", found),
        Call("GET", query(found, account=names.account_id)),
        Call("GET", query(found, account=mine.account_id)),
    ]


def limits(names: Names, mine: Account, path: str, *, own: bool) -> list[Call]:
    """Limits below a foreign account, and those that the caller's own has for the same id."""
    path = path.format(**vars_of(names))
    return [
        Call("GET", f"/v1/accounts/{names.account_id}/{path}"),
        Call("GET", f"/v1/accounts/{mine.account_id}/{path}", answers_own=own, repeats=own),
    ]


def stream(names: Names, mine: Account, verb: str) -> list[Call]:
    path = f"/v1/streams/{names.stream_id}/{verb}"
    accounts = (names.account_id, mine.account_id)
    return [Call("POST", path), *(Call("POST", query(path, account=account_id)) for account_id in accounts)]


def begin_stream(names: Names, mine: Account) -> list[Call]:
    """Streams are an account's own: the same id of the same user is another stream."""
    wanted = {"stream_id": names.stream_id, "user_id": names.user_id}
    own: Any = {"answers_own": True, "repeats": True}
    return [
        Call("POST", "/v1/streams", {**wanted, "account_id": names.account_id}),
        Call("POST", "/v1/streams", wanted, **own),
        Call("POST", query(f"/v1/streams/{names.stream_id}/end", account=mine.account_id), **own),
    ]


def authorize_stream(names: Names, _: Account) -> list[Call]:
    url = f"rtmp://gateway/{names.stream_id}?user={names.user_id}"
    return [
        Call("POST", path, {"url": url}, answers_own=True)
        for path in ("/auth/stream", query("/auth/stream", user=names.user_id, lease=15))
    ]


def exchange_token(names: Names, _: Account) -> list[Call]:
    made_up = f"lpch_{names.key_id}_{MADE_UP_SECRET}"
    wanted = {"grant_type": EXCHANGE, "user_id": names.user_id}
    return [
        Call("POST", "/v1/tokens", wanted, answers_own=True),
        Call("POST", "/v1/tokens", {**wanted, "subject_token": made_up}),
        Call("POST", "/v1/tokens", {**wanted, "audience": names.account_id}),
    ]


def push(names: Names, _: Account) -> list[Call]:
    """Usage of a foreign account, the caller's own of a user of the same id, and what corrects nothing."""
    event = {"specversion": "1.0", "source": "app", "type": "used", "id": names.job_id}
    own = {**event, "subject": names.user_id}
    corrects = {**event, "id": f"{names.job_id}-2", "corrects": names.stream_id}
    path, as_event = "/v1/usage/events", "application/cloudevents+json"
    return [
        Call("POST", query(path, account=names.account_id), event, repeats=True, media_type=as_event),
        Call("POST", path, own, answers_own=True, repeats=True, media_type=as_event),
        Call("POST", path, corrects, media_type=as_event),
    ]


def stop(names: Names) -> dict[str, Any]:
    return {"stops": [{"what": "account", "value": names.account_id}]}


def told_tickets(names: Names, _: Account) -> list[Call]:
    whose: dict[str, Any] = {"auth_id": f"{names.account_id}:{names.user_id}", "session_id": names.session_id}
    told = event(at=datetime(2026, 3, 1, tzinfo=UTC), **whose, id="0b9a9e5c-6f0a-4a8e-9a3b-0d6f5a1c2b3d")
    return [Call("POST", "/v1/usage/tickets", [told], answers_own=True)]


LIMITS = {"spend_limit_wei": "7"}

# What each operation is called with, but for the payment, which has tests of its own.
CASES: Cases = {
    "discover_orchestrators": lambda names, _: [
        Call("GET", "/discover-orchestrators", answers_own=True),
        Call("GET", query("/discover-orchestrators", caps=names.account_id), answers_own=True),
    ],
    "sign_our_address": lambda names, _: [
        Call("POST", "/sign-orchestrator-info", {}, answers_own=True),
        Call("POST", "/sign-orchestrator-info", {"account_id": names.account_id}, answers_own=True),
    ],
    "list_accounts": lambda names, _: pages("/v1/accounts", cursor(names.account_id)),
    "open_account": lambda names, _: [
        Call("POST", "/v1/accounts", {"account_id": names.account_id, "spend_limit_wei": "7"})
    ],
    "get_account": lambda names, _: [Call("GET", f"/v1/accounts/{names.account_id}")],
    "list_keys": lambda names, mine: [
        *pages(f"/v1/accounts/{names.account_id}/keys", cursor(names.key_id)),
        *pages(f"/v1/accounts/{mine.account_id}/keys", cursor(names.key_id)),
    ],
    "issue_key": change("POST", "/v1/accounts/{account_id}/keys", {"user_id": "someone"}),
    "revoke_key": change("DELETE", "/v1/accounts/{account_id}/keys/{key_id}"),
    "read_limits": lambda names, _: [Call("GET", f"/v1/accounts/{names.account_id}/limits")],
    "set_limits": change("PUT", "/v1/accounts/{account_id}/limits", LIMITS),
    "read_user_limits": lambda names, mine: limits(names, mine, "users/{user_id}/limits", own=True),
    "set_user_limits": change("PUT", "/v1/accounts/{account_id}/users/{user_id}/limits", LIMITS),
    "read_key_activity": lambda names, _: [Call("GET", f"/v1/keys/{names.key_id}/activity")],
    "read_key_limits": lambda names, mine: limits(names, mine, "keys/{key_id}/limits", own=False),
    "set_key_limits": change("PUT", "/v1/accounts/{account_id}/keys/{key_id}/limits", LIMITS),
    "assign_plan": change("PUT", "/v1/accounts/{account_id}/plan", {"plan": None}),
    "set_time_zone": change("PUT", "/v1/accounts/{account_id}/time-zone", {"time_zone": "Asia/Tokyo"}),
    "list_plans": lambda *_: [Call("GET", "/v1/plans")],
    "read_plan": lambda names, _: [Call("GET", f"/v1/plans/{names.account_id}")],
    "set_plan": lambda names, _: [Call("PUT", f"/v1/plans/{names.account_id}", {})],
    "read_credit": lambda names, mine: [
        Call("GET", f"/v1/accounts/{names.account_id}/credit"),
        Call("GET", f"/v1/accounts/{mine.account_id}/credit", answers_own=True),
    ],
    "grant_credit": change(
        "POST", "/v1/accounts/{account_id}/credit", {"grant_id": "more", "amount_micro_usd": 7}
    ),
    "void_credit": change("DELETE", "/v1/accounts/{account_id}/credit/{grant_id}"),
    "add_hook": change("POST", "/v1/accounts/{account_id}/hooks"),
    "list_hooks": lambda names, mine: [
        Call("GET", f"/v1/accounts/{account_id}/hooks") for account_id in (names.account_id, mine.account_id)
    ],
    "rotate_hook": change("POST", "/v1/accounts/{account_id}/hooks/{hook_id}/rotate"),
    "remove_hook": change("DELETE", "/v1/accounts/{account_id}/hooks/{hook_id}"),
    "take_delivery": change("POST", "/webhooks/livepeer/{hook_id}", {}),
    # Before the caller begins a stream of his own that is called like the foreign one.
    "list_metered_streams": lambda names, mine: of_account(names, mine, "/streams", cursor(names.stream_id)),
    "read_metered_stream": change("GET", "/v1/accounts/{account_id}/streams/{stream_id}"),
    "assign_stream": change(
        "PUT",
        "/v1/accounts/{account_id}/streams/{stream_id}/user",
        {"user_id": "someone", "reason": "customer_request"},
    ),
    "begin_stream": begin_stream,
    "keep_stream": lambda names, mine: stream(names, mine, "heartbeat"),
    "end_stream": lambda names, mine: stream(names, mine, "end"),
    "list_streams": lambda names, _: [
        Call("GET", query("/v1/streams", account=names.account_id)),
        Call("GET", query("/v1/streams", account=names.account_id, cursor=cursor(names.stream_id))),
        Call("GET", "/v1/streams", answers_own=True),
    ],
    "exchange_token": exchange_token,
    "end_token": lambda names, mine: [
        Call("DELETE", f"/v1/accounts/{names.account_id}/tokens/{MADE_UP_TOKEN}"),
        Call("DELETE", f"/v1/accounts/{mine.account_id}/tokens/{MADE_UP_TOKEN}", answers_own=True),
    ],
    "list_stops": lambda names, _: pages("/v1/stops", cursor(f"account:{names.account_id}")),
    "set_stops": lambda names, _: [Call("POST", "/v1/stops", stop(names))],
    "lift_stops": lambda names, _: [Call("POST", "/v1/stops/lift", stop(names))],
    "list_dead_letters": lambda *_: pages("/v1/dead-letters", cursor(LETTER)),
    "read_dead_letter": lambda *_: [Call("GET", f"/v1/dead-letters/{LETTER}")],
    "redrive_dead_letter": lambda *_: [
        Call("POST", f"/v1/dead-letters/{LETTER}/redrive", {"reason": "mended"})
    ],
    "read_audit": lambda names, _: pages(query("/v1/audit", account_id=names.account_id)),
    "read_events": lambda names, _: [
        Call("GET", query("/v1/events", account=names.account_id)),
        Call("GET", query("/v1/events", account=names.account_id, after="now", format="cloudevents")),
    ],
    "authorize_stream": authorize_stream,
    "authorize_payment": lambda *_: [Call("POST", "/authorize", {"headers": {}, "state": {}})],
    "set_payer": change("PUT", "/v1/accounts/{account_id}/payer", {"payer": "0x" + "12" * 20}),
    "resume_account": change("POST", "/v1/accounts/{account_id}/resume"),
    "suspend_account": change("POST", "/v1/accounts/{account_id}/suspend", {"reason": "unpaid"}),
    "list_account_sessions": lambda names, mine: of_account(
        names, mine, "/sessions", cursor(names.session_id)
    ),
    "query_account_usage": usage,
    "push_usage": push,
    "list_meters": lambda *_: [Call("GET", "/v1/meters")],
    "define_meter": lambda *_: [Call("PUT", "/v1/meters/mine", {"event_type": "a", "aggregation": "count"})],
    "retire_meter": lambda *_: [Call("DELETE", "/v1/meters/mine")],
    "close_usage": change(
        "POST",
        "/v1/accounts/{account_id}/usage/close",
        {"until": "2026-01-01T00:00:00Z", "reason": "customer_request"},
    ),
    "read_me": lambda names, _: [
        Call("GET", "/v1/me", answers_own=True),
        Call("GET", query("/v1/me", account=names.account_id), answers_own=True),
    ],
    "read_pool": lambda *_: [Call("GET", "/v1/pool")],
    "list_pools": lambda *_: [Call("GET", "/v1/pools")],
    "list_redemptions": lambda *_: pages("/v1/redemptions", cursor("00" * 16)),
    "list_sessions": lambda names, _: pages("/v1/sessions", cursor(names.session_id)),
    "read_session": session,
    "read_timeline": lambda names, mine: session(names, mine, "/timeline"),
    "tell_signed_tickets": told_tickets,
    "query_usage": lambda names, _: [
        Call("GET", "/v1/usage"),
        Call("GET", query("/v1/usage", group_by="account", user_id=names.user_id)),
        Call("GET", query("/v1/usage", meter="tickets", account=names.account_id)),
        *pages("/v1/usage", cursor()),
    ],
}
PAYMENT = "generate_a_payment"
# What a user's key is answered with, where it is not 403; of another's user it may do none of these.
TO_USERS_KEYS = {
    "read_me": {200},
    "query_account_usage": {200, 403, 404},  # its own user's
    "discover_orchestrators": {200},
    "sign_our_address": {200},
    "begin_stream": {403, 404},
    "keep_stream": {404},
    "end_stream": {404},
    "exchange_token": {400},
    "authorize_stream": {200},  # it begins one of its own user
    "push_usage": {202, 403, 404},  # it is of its own user
    "authorize_payment": {401},  # this needs another secret
    "take_delivery": {401},  # and this a signature
}
