"""Two accounts that are alike: neither sees or changes what is the other's, whatever it names.

Every operation of the document that the running edge serves is called with the other account's ids.
A foreign id answers exactly like one that nobody has, and the other's books stay as they were.
"""

import asyncio
import json
import re
import secrets
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import aiohttp
import psycopg
import pytest

from tests.acceptance.checks import settled
from tests.acceptance.system import Account, Answer, System, until
from tests.acceptance.wire import SIGNER, Challenge, Paid, Payer, foreign_state, request
from tests.told_tickets import event
from tilt.supervisor import Supervisor
from tilt.world import World

pytestmark = pytest.mark.anyio

# What idle sessions and leases do by themselves, whoever calls whatever; streams are looked at by user.
# And what is told later: from where the account's own keys were used.
BY_ITSELF = (
    "session_closed",
    "allowance_freed",
    "sub_budget_held",
    "pool_",
    "stream_",
    "key_watch_opened",
    "key_networks_seen",
)
CHANGING_HEADERS = ("date", "x-request-id", "content-length")
# What no two answers say alike.
CHANGING_FIELDS = (
    "access_token",
    "token_id",
    "sdk_token",
    "manifestID",
    "begun_at",
    "lease_ends_at",
    "ended_at",
)
CHANGING = re.compile(rf'("(?:{"|".join(CHANGING_FIELDS)})":)"[^"]*"')
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
MADE_UP_SECRET = "a" * 38
MADE_UP_TOKEN = "0123456789Ab"  # tokens are nobody's but their account's: any id is taken
LETTER = "metering-record-usage:1:3"  # letters are the house's, and nobody else is told of them
LEASE_SECONDS = 3600
ESTIMATE_WEI = 2500  # of a first payment that another signer tells of


@dataclass(frozen=True)
class Names:
    """What may be named in a request. Of the foreign account, or of nobody."""

    account_id: str
    key_id: str
    session_id: str
    user_id: str
    stream_id: str
    job_id: str
    grant_id: str
    hook_id: str

    @classmethod
    def of_nobody(cls) -> "Names":
        token = secrets.token_hex(6)
        own = [*(f"{letter}-{token}" for letter in "usjg"), secrets.token_hex(6)]
        return cls(f"nobody-{token}", secrets.token_hex(6), secrets.token_hex(16), *own)


@dataclass(frozen=True)
class Tenant:
    """An account that has paid, with all it has."""

    account: Account
    names: Names
    challenge: Challenge
    paid: Paid
    bound_key: Account  # of the same account, for another of its users
    revoked_key: Account
    hook_secret: str

    @property
    def secrets(self) -> list[str]:
        """What nobody else may be shown."""
        return [self.account.api_key, self.paid.payment, self.paid.state["Sig"], self.hook_secret]


@dataclass(frozen=True)
class Call:
    method: str
    path: str
    body: Any = None
    answers_own: bool = False  # it may succeed, with what is the caller's own
    repeats: bool = False  # its answer says again what it was asked with
    media_type: str = "application/json"


type Cases = Mapping[str, Callable[[Names, Account], Sequence[Call]]]


def cursor(*keys: str) -> str:
    return urlsafe_b64encode(json.dumps(keys).encode()).decode().rstrip("=")


def query(path: str, **values: Any) -> str:
    return f"{path}?{urlencode(values, doseq=True)}"


def pages(path: str, *cursors: str) -> list[Call]:
    return [Call("GET", path), *(Call("GET", query(path, cursor=each, limit=1)) for each in cursors)]


def of_account(names: Names, mine: Account, path: str, *cursors: str) -> list[Call]:
    """A list of the foreign account, and the caller's own from a foreign place on."""
    own = [
        replace(call, answers_own=True) for call in pages(f"/v1/accounts/{mine.account_id}{path}", *cursors)
    ]
    return [*pages(f"/v1/accounts/{names.account_id}{path}", *cursors), *own]


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


def change(method: str, path: str, body: Any = None) -> Callable[[Names, Account], Sequence[Call]]:
    """An operation on the foreign account, or with a foreign key of the caller's own account."""
    return lambda names, mine: [
        Call(method, path.format(**{**vars_of(names), "account_id": account_id}), body)
        for account_id in (names.account_id, mine.account_id)
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


def vars_of(names: Names) -> dict[str, str]:
    return {field.name: getattr(names, field.name) for field in fields(names)}


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


@pytest.fixture(scope="module")
def tenants(processes: tuple[World, Supervisor]) -> tuple[Tenant, Tenant]:
    """The attacker and his twin, who has paid for two streams and been idle since."""

    async def prepare() -> tuple[Tenant, Tenant]:
        async with _system(processes) as system:
            return await _tenant(system), await _tenant(system)

    return asyncio.run(prepare())


@asynccontextmanager
async def _system(processes: tuple[World, Supervisor]) -> AsyncIterator[System]:
    # The orchestrator's certificate is one it made itself.
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as http:
        yield System(*processes, http)


async def _tenant(system: System) -> Tenant:
    account = await system.open_account()
    token = secrets.token_hex(4)
    user_id, stream_id = f"user-{token}", f"stream-{token}"
    job_id, grant_id = f"job-{token}", f"grant-{token}"
    payer = Payer(system, account)
    challenge = await payer.challenge()
    headers = {"Clearinghouse-User": user_id, "Clearinghouse-Stream": stream_id}
    paid = Paid.read(await _pay(system, account, request(challenge), headers))
    upfront = request(challenge, type="fixed", ManifestID=None)
    await _pay(system, account, upfront, {**headers, "Idempotency-Key": job_id})
    revoked = await system.issue_key(account.account_id)
    await system.revoke_key(revoked)
    path = f"/v1/accounts/{account.account_id}"
    issued = await system.call("POST", f"{path}/keys", body={"user_id": "another-user"})
    begun = {"stream_id": stream_id, "user_id": user_id, "lease_seconds": LEASE_SECONDS}
    assert (await system.call("POST", "/v1/streams", key=account.api_key, body=begun)).status == 201
    granted = {"grant_id": grant_id, "amount_micro_usd": 7}
    assert (await system.call("POST", f"{path}/credit", body=granted)).status == 201
    await settled(system, account)
    hook = (await system.call("POST", f"{path}/hooks")).json
    metered = f"{path}/streams/{stream_id}"

    async def is_metered() -> bool:
        return (await system.call("GET", metered)).status == 200

    await until("metering has heard of the stream", is_metered, seconds=15)
    ids = (user_id, stream_id, job_id, grant_id, hook["hook_id"])
    names = Names(account.account_id, account.key_id, paid.session_id, *ids)
    return Tenant(account, names, challenge, paid, Account.of(issued.json), revoked, hook["secret"])


async def _pay(system: System, account: Account, body: bytes, headers: Mapping[str, str]) -> Answer:
    return await system.send("POST", SIGNER, data=body, headers={**account.headers, **headers})


async def test_no_operation_is_forgotten(system: System) -> None:
    paths = (await system.send("GET", "/openapi.json")).json["paths"]
    served = {operation["operationId"] for methods in paths.values() for operation in methods.values()}

    assert served == {*CASES, PAYMENT}


@pytest.mark.parametrize("operation", CASES)
async def test_a_foreign_id_answers_like_one_that_nobody_has(
    system: System, tenants: tuple[Tenant, Tenant], operation: str
) -> None:
    mine, other = tenants
    nobody = Names.of_nobody()
    before = await _books(system, other)

    for foreign, missing in _pairs(operation, other.names, nobody, mine.account):
        shown = await _call(system, foreign, mine.account.api_key)
        expected = await _call(system, missing, mine.account.api_key)

        assert _shape(shown, other.names) == _shape(expected, nobody), foreign
        assert foreign.answers_own or shown.status >= 400, (foreign, shown)
        repeated = vars_of(other.names).values() if foreign.repeats else ()
        _assert_nothing_of(other, shown, except_for=repeated)
    assert await _books(system, other) == before


@pytest.mark.parametrize("operation", CASES)
async def test_a_key_bound_to_one_user_reads_nothing_of_another(
    system: System, tenants: tuple[Tenant, Tenant], operation: str
) -> None:
    _, other = tenants
    before = await _books(system, other)

    for call in CASES[operation](other.names, other.account):
        answer = await _call(system, call, other.bound_key.api_key)

        assert answer.status in TO_USERS_KEYS.get(operation, {403}), (call, answer)
        repeated = vars_of(other.names).values() if call.repeats else ()
        _assert_nothing_of(other, answer, except_for=(other.names.account_id, *repeated))
    assert await _books(system, other) == before


@pytest.mark.parametrize("shown", ["revoked", "none", "made up"])
@pytest.mark.parametrize("operation", [*CASES, PAYMENT])
async def test_without_a_good_key_every_operation_answers_the_same(
    system: System, tenants: tuple[Tenant, Tenant], operation: str, shown: str
) -> None:
    _, other = tenants
    key = {"revoked": other.revoked_key.api_key, "none": "", "made up": other.account.api_key[:-1] + "!"}
    headers = {"Authorization": f"Bearer {key[shown]}"} if key[shown] else {}

    for call in [*CASES.get(operation, _payments)(other.names, other.account)]:
        answer = await _send(system, call, headers)

        assert answer.status == 401, (call, answer)
        scheme = "Livepeer-Signature" if operation == "take_delivery" else "Bearer"
        assert answer.headers["WWW-Authenticate"] == scheme
        _assert_nothing_of(other, answer)


def _payments(*_: object) -> Sequence[Call]:
    return [Call("POST", SIGNER, {})]


async def test_a_foreign_state_pays_nothing_and_answers_like_a_made_up_one(
    system: System, tenants: tuple[Tenant, Tenant]
) -> None:
    mine, other = tenants
    before = await _books(system, other)
    state, own = other.paid.state, mine.paid.state
    made_up = {**state, "Sig": b64encode(secrets.token_bytes(32)).decode()}
    expected = _shape(await _ask(system, mine.account, request(other.challenge, made_up)), other.names)

    answers = [
        await _ask(system, mine.account, request(other.challenge, changed))
        for changed in (
            state,
            {**own, "State": state["State"]},
            {**state, "State": own["State"]},
            {**state, "State": _renamed(own["State"], other.paid.session_id)},
            {**own, "State": _renamed(own["State"], other.paid.session_id)},
        )
    ]

    assert expected[0] == 400
    assert [_shape(answer, other.names) for answer in answers] == [expected] * len(answers)
    assert await _books(system, other) == before


async def test_a_foreign_session_named_first_is_a_session_of_the_callers_own(
    system: System, tenants: tuple[Tenant, Tenant]
) -> None:
    """ManifestIDs and quotes are the orchestrator's: whoever pays them pays for himself."""
    mine, other = tenants
    before = await _books(system, other)
    names = other.names
    headers = {"Clearinghouse-User": names.user_id, "Clearinghouse-Stream": names.stream_id}

    first = await _pay(system, mine.account, request(other.challenge), headers)
    paid = Paid.read(first)
    upfront = request(other.challenge, type="fixed", ManifestID=None)
    job = await _pay(system, mine.account, upfront, {**headers, "Idempotency-Key": names.job_id})

    assert paid.session_id not in {names.session_id, mine.names.session_id}
    assert paid.tickets.keys().isdisjoint(other.paid.tickets)
    assert job.status == 200
    assert Paid.read(job).tickets.keys().isdisjoint((await system.log()).of(names.account_id).tickets())
    for answer in (first, job):
        _assert_nothing_of(other, answer)
    await settled(system, mine.account)
    own = [row for row in await system.sessions(mine.account) if row["session_id"] == paid.session_id]
    assert [(row["account_id"], row["user_id"]) for row in own] == [(mine.account.account_id, names.user_id)]
    assert await _books(system, other) == before


async def test_at_authorize_a_foreign_session_is_another_one_of_the_callers_own(
    system: System, tenants: tuple[Tenant, Tenant]
) -> None:
    """Another signer's hook has one secret for all its customers, and its StateIDs are its own."""
    _, other = tenants
    mine = await system.open_account()
    theirs = f"state-{secrets.token_hex(8)}"
    assert (await _authorize(system, other.account, other, theirs)).json["status"] == 200
    await _until_nothing_is_held(system, other.account)
    before = await _books(system, other)

    told, used = [], []
    for state_id in (f"state-{secrets.token_hex(8)}", theirs, other.names.session_id, other.names.stream_id):
        answer = await _authorize(system, mine, other, state_id)
        told.append(answer.json)
        found = await system.limits(mine)
        used.append(int(found["held_wei"]) + int(found["spent_wei"]))
        _assert_nothing_of(other, answer, except_for=(other.names.user_id,))
    await _until_nothing_is_held(system, mine)

    auth_id = f"{mine.account_id}:{other.names.user_id}"
    assert told == [{"status": 200, "expiry": 0, "auth_id": auth_id}] * 4
    assert used == [ESTIMATE_WEI * (1 + number) for number in range(4)]
    assert int((await system.limits(mine))["spent_wei"]) == 4 * ESTIMATE_WEI
    assert await _books(system, other) == before


async def _authorize(system: System, account: Account, named: Tenant, state_id: str) -> Answer:
    """Another signer asks for an account, and its client names somebody's user."""
    headers = {"Authorization": [f"Bearer {account.api_key}"], "Clearinghouse-User": [named.names.user_id]}
    body = {"headers": headers, "state": foreign_state(state_id, sequence=3, balance="1500")}
    secret = {"Authorization": f"Bearer {system.world.hook_secret}", "Content-Type": "application/json"}
    return await system.send("POST", "/authorize", data=json.dumps(body).encode(), headers=secret)


async def _until_nothing_is_held(system: System, account: Account) -> None:
    async def settled_down() -> bool:
        return await system.held(account) == 0

    await until("estimates count as spent", settled_down, seconds=30)


def _pairs(operation: str, foreign: Names, missing: Names, mine: Account) -> Iterator[tuple[Call, Call]]:
    make = CASES[operation]
    yield from zip(make(foreign, mine), make(missing, mine), strict=True)


async def _call(system: System, call: Call, key: str) -> Answer:
    return await _send(system, call, {"Authorization": f"Bearer {key}"})


async def _send(system: System, call: Call, headers: Mapping[str, str]) -> Answer:
    data = None if call.body is None else json.dumps(call.body).encode()
    return await system.send(
        call.method, call.path, data=data, headers={**headers, "Content-Type": call.media_type}
    )


async def _ask(system: System, account: Account, body: bytes) -> Answer:
    return await _pay(system, account, body, {})


def _renamed(state: str, session_id: str) -> str:
    content = json.loads(b64decode(state))
    return b64encode(json.dumps({**content, "StateID": session_id}).encode()).decode()


def _shape(answer: Answer, sent: Names) -> tuple[int, str, dict[str, str]]:
    """An answer without what every request has of its own, and without the names it was asked with."""
    body = answer.body.decode().replace(answer.headers.get("X-Request-Id", ""), "<request>")
    for name in vars_of(sent).values():
        body = body.replace(name, "<name>")
    body = CHANGING.sub(r"\1<changing>", body)
    headers = {
        key.lower(): value for key, value in answer.headers.items() if key.lower() not in CHANGING_HEADERS
    }
    return answer.status, body, headers


def _assert_nothing_of(other: Tenant, answer: Answer, *, except_for: Collection[str] = ()) -> None:
    """No secret in any answer; no name in one that succeeds, as it was not asked to repeat it."""
    text = answer.body.decode() + str(answer.headers)
    hidden = list(other.secrets)
    if answer.status < 300:
        hidden += [name for name in vars_of(other.names).values() if name not in except_for]
    assert not [word for word in hidden if word in text], answer


async def _books(system: System, tenant: Tenant) -> dict[str, Any]:
    """All that is said of an account, and how many events are stored of it, but what time alone adds."""
    account = tenant.account
    path = f"/v1/accounts/{account.account_id}"
    limits = await system.limits(account)
    sessions = await system.sessions(account)
    return {
        "account": (await system.call("GET", path)).json,
        "keys": (await system.call("GET", f"{path}/keys")).json,
        "limits": (limits["spend_limit_wei"], limits["spent_wei"], limits["suspended"]),
        "sessions": [{**row, "closed": None, "last_at": None} for row in sessions],
        "credit": (await system.call("GET", f"{path}/credit")).json,
        "streams": [row for row in await _streams(system, account) if row["user_id"] == tenant.names.user_id],
        "hooks": (await system.call("GET", f"{path}/hooks")).json,
        "metered": (await system.call("GET", f"{path}/streams/{tenant.names.stream_id}")).json["stream"],
        "usage": (await system.call("GET", query(f"{path}/usage", group_by="user"))).json,
        "timeline": [
            entry
            for entry in await system.timeline(account, tenant.names.session_id)
            if entry["event"] != "Closed"  # it is idle
        ],
        "events": await asyncio.to_thread(_events, system.world.dsn(), account.account_id),
    }


async def _streams(system: System, account: Account) -> list[dict[str, Any]]:
    path = query("/v1/streams", account=account.account_id)
    found: list[dict[str, Any]] = (await system.call("GET", path)).json["streams"]
    return found


def _events(dsn: str, account_id: str) -> int:
    """How many events name the account, or follow one that does."""
    count = 0
    with psycopg.connect(dsn) as connection:
        for schema in ("accounts", "signer", "quota"):
            table = f"{schema}.{schema}_events"
            query = (
                f"SELECT count(*) FROM {table} WHERE topic !~ %s AND originator_id IN (SELECT"
                f" originator_id FROM {table} WHERE convert_from(state, 'UTF8') LIKE %s)"
            )
            row = connection.execute(query.encode(), ("|".join(BY_ITSELF), f'%"{account_id}"%')).fetchone()
            count += int(row[0]) if row else 0
    return count
