"""Two accounts that are alike: neither sees or changes what is the other's, whatever it names.

Every operation of the document that the running edge serves is called with the other account's ids.
A foreign id answers exactly like one that nobody has, and the other's books stay as they were.
"""

import asyncio
import json
import re
import secrets
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager

import aiohttp
import pytest

from tests.acceptance.checks import settled
from tests.acceptance.foreign_calls import Call, Names, vars_of
from tests.acceptance.operations import CASES, PAYMENT, TO_USERS_KEYS
from tests.acceptance.system import Account, Answer, System, until
from tests.acceptance.tenants import Tenant, books, pay, paying_tenant
from tests.acceptance.wire import SIGNER, Paid, foreign_state, request
from tilt.supervisor import Supervisor
from tilt.world import World

pytestmark = pytest.mark.anyio

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
ESTIMATE_WEI = 2500  # of a first payment that another signer tells of


@pytest.fixture(scope="module")
def tenants(processes: tuple[World, Supervisor]) -> tuple[Tenant, Tenant]:
    """The attacker and his twin, who has paid for two streams and been idle since."""

    async def prepare() -> tuple[Tenant, Tenant]:
        async with _system(processes) as system:
            # Pages go on after a user: the attacker's own comes after the twin's, as after nobody's.
            attacker = await paying_tenant(system, user="user-b")
            return attacker, await paying_tenant(system, user="user-a")

    return asyncio.run(prepare())


@asynccontextmanager
async def _system(processes: tuple[World, Supervisor]) -> AsyncIterator[System]:
    # The orchestrator's certificate is one it made itself.
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as http:
        yield System(*processes, http)


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
    before = await books(system, other)

    for foreign, missing in _pairs(operation, other.names, nobody, mine.account):
        shown = await _call(system, foreign, mine.account.api_key)
        expected = await _call(system, missing, mine.account.api_key)

        assert _shape(shown, other.names) == _shape(expected, nobody), foreign
        assert foreign.answers_own or shown.status >= 400, (foreign, shown)
        repeated = vars_of(other.names).values() if foreign.repeats else ()
        _assert_nothing_of(other, shown, except_for=repeated)
    assert await books(system, other) == before


@pytest.mark.parametrize("operation", CASES)
async def test_a_key_bound_to_one_user_reads_nothing_of_another(
    system: System, tenants: tuple[Tenant, Tenant], operation: str
) -> None:
    _, other = tenants
    before = await books(system, other)

    for call in CASES[operation](other.names, other.account):
        answer = await _call(system, call, other.bound_key.api_key)

        assert answer.status in TO_USERS_KEYS.get(operation, {403}), (call, answer)
        repeated = vars_of(other.names).values() if call.repeats else ()
        _assert_nothing_of(other, answer, except_for=(other.names.account_id, *repeated))
    assert await books(system, other) == before


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
    before = await books(system, other)
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
    assert await books(system, other) == before


async def test_a_foreign_session_named_first_is_a_session_of_the_callers_own(
    system: System, tenants: tuple[Tenant, Tenant]
) -> None:
    """ManifestIDs and quotes are the orchestrator's: whoever pays them pays for himself."""
    mine, other = tenants
    before = await books(system, other)
    names = other.names
    headers = {"Clearinghouse-User": names.user_id, "Clearinghouse-Stream": names.stream_id}

    first = await pay(system, mine.account, request(other.challenge), headers)
    paid = Paid.read(first)
    upfront = request(other.challenge, type="fixed", ManifestID=None)
    job = await pay(system, mine.account, upfront, {**headers, "Idempotency-Key": names.job_id})

    assert paid.session_id not in {names.session_id, mine.names.session_id}
    assert paid.tickets.keys().isdisjoint(other.paid.tickets)
    assert job.status == 200
    assert Paid.read(job).tickets.keys().isdisjoint((await system.log()).of(names.account_id).tickets())
    for answer in (first, job):
        _assert_nothing_of(other, answer)
    await settled(system, mine.account)
    own = [row for row in await system.sessions(mine.account) if row["session_id"] == paid.session_id]
    assert [(row["account_id"], row["user_id"]) for row in own] == [(mine.account.account_id, names.user_id)]
    assert await books(system, other) == before


async def test_at_authorize_a_foreign_session_is_another_one_of_the_callers_own(
    system: System, tenants: tuple[Tenant, Tenant]
) -> None:
    """Another signer's hook has one secret for all its customers, and its StateIDs are its own."""
    _, other = tenants
    mine = await system.open_account()
    theirs = f"state-{secrets.token_hex(8)}"
    assert (await _authorize(system, other.account, other, theirs)).json["status"] == 200
    await _until_nothing_is_held(system, other.account)
    before = await books(system, other)

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
    assert await books(system, other) == before


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
    return await pay(system, account, body, {})


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
