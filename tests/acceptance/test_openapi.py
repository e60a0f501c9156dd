"""The running edge answers under /v1 as its OpenAPI document says, whoever asks for whatever.

Schemathesis reads the document and makes the requests: well-formed ones, and ones that are not.
"""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import CheckFunction, not_a_server_error
from schemathesis.config import (
    ChecksConfig,
    GenerationConfig,
    ProjectConfig,
    ProjectsConfig,
    SchemathesisConfig,
)
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.acceptance.checks import settled
from tests.acceptance.system import Account, System
from tests.acceptance.wire import Payer
from tilt.supervisor import Supervisor
from tilt.world import World

DOCUMENT = Path(__file__).parents[2] / "contracts" / "schemas" / "openapi.json"
CHECKS: list[CheckFunction] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
    negative_data_rejection,
]
NAMES = {
    "user_id": "user-7",
    "stream_id": "stream-7",
    "grant_id": "grant-7",
    "name": "small-7",
    "meter": "calls_7",
}
EXAMPLES = 8  # of each operation and caller, beside those at the bounds of its parameters
TIMEOUT_SECONDS = 10

# What is one too many for a long list may be too large for the edge before it is looked at: 413.
REJECTED = {"negative_data_rejection": {"expected-statuses": ["4xx", "5xx"]}}
# All requests carry a good key: what comes without is tests/acceptance/test_bad_input.py's.
CONFIG = SchemathesisConfig(
    projects=ProjectsConfig(
        default=ProjectConfig(
            generation=GenerationConfig(with_security_parameters=False),
            checks=ChecksConfig.from_dict(REJECTED),
        )
    )
)
api = schemathesis.openapi.from_path(DOCUMENT, config=CONFIG).include(path_regex="^/v1")


@schemathesis.serializer("application/x-ndjson")
def one_line(_: schemathesis.SerializationContext, value: Any) -> bytes:
    return json.dumps(value).encode()


@dataclass(frozen=True)
class Caller:
    """Whose key is shown, and what there is for requests to name; nothing, for one who guesses."""

    url: str
    key: str
    ids: dict[str, str]

    def aim(self, case: Any) -> None:
        """Make a request name what there is, as made-up ids find nothing; unless it means to be wrong."""
        named = case.path_parameters.keys() & self.ids
        if named and _is_positive(case, ParameterLocation.PATH):
            case.path_parameters.update({name: self.ids[name] for name in named})
        if "session_id" in named and _is_positive(case, ParameterLocation.QUERY):
            case.query["account"] = self.ids["account_id"]
        if "wait" in (case.query or {}) and _is_positive(case, ParameterLocation.QUERY):
            case.query["wait"] = 0  # nobody has time for that


def _is_positive(case: Any, part: ParameterLocation) -> bool:
    component = case.meta.components.get(part)
    return component is None or component.mode.is_positive


@pytest.fixture(scope="module", params=["administrator", "administrator who guesses", "account"])
def caller(request: pytest.FixtureRequest, processes: tuple[World, Supervisor]) -> Iterator[Caller]:
    world, _ = processes
    if request.param == "administrator who guesses":
        yield Caller(world.public_url, world.admin_key, {})
        asyncio.run(_lift_stops(*processes))
        return
    account, session_id = asyncio.run(_paying_account(*processes))
    key = account.api_key if request.param == "account" else world.admin_key
    ids = {"account_id": account.account_id, "key_id": account.key_id, "session_id": session_id, **NAMES}
    yield Caller(world.public_url, key, ids)
    asyncio.run(_lift_stops(*processes))


async def _paying_account(world: World, supervisor: Supervisor) -> tuple[Account, str]:
    """An account with a session, so that there is something to answer; with its id."""
    # The orchestrator's certificate is one it made itself.
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as http:
        system = System(world, supervisor, http)
        payer = Payer(system, await system.open_account())
        paid = await payer.pay(await payer.challenge())
        await settled(system, payer.account)
        await _make_named(system, payer.account)
    return payer.account, paid.session_id


async def _make_named(system: System, account: Account) -> None:
    """What `NAMES` names, so that there is something to answer."""
    user, stream, grant, plan = (NAMES[name] for name in ("user_id", "stream_id", "grant_id", "name"))
    path = f"/v1/accounts/{account.account_id}/credit"
    begun = await system.call(
        "POST", "/v1/streams", key=account.api_key, body={"stream_id": stream, "user_id": user}
    )
    granted = await system.call("POST", path, body={"grant_id": grant, "amount_micro_usd": 7})
    made = await system.call("PUT", f"/v1/plans/{plan}", body={})
    counting = {"event_type": "used", "aggregation": "count"}
    defined = await system.call("PUT", f"/v1/meters/{NAMES['meter']}", body=counting)
    assert (begun.status, granted.status, made.status) == (201, 201, 200)
    assert defined.status in {200, 409}  # somebody may have retired it


async def _lift_stops(world: World, supervisor: Supervisor) -> None:
    """Whatever was stopped meanwhile, and everything at worst, is signed again."""
    async with aiohttp.ClientSession() as http:
        system = System(world, supervisor, http)
        while stops := (await system.call("GET", "/v1/stops?limit=100")).json["stops"]:
            named = [{"what": stop["what"], "value": stop["value"]} for stop in stops]
            lifted = await system.call("POST", "/v1/stops/lift", body={"stops": named})
            assert lifted.status == 204, lifted


@api.parametrize()
@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
def test_an_operation_answers_as_the_document_says(case: Any, caller: Caller) -> None:
    caller.aim(case)

    case.call_and_validate(
        base_url=caller.url,
        headers={"Authorization": f"Bearer {caller.key}"},
        checks=CHECKS,
        timeout=TIMEOUT_SECONDS,
    )


@pytest.mark.anyio
async def test_the_running_edge_serves_the_document_that_is_checked_in(system: System) -> None:
    answer = await system.send("GET", "/openapi.json")

    assert answer.json == json.loads(DOCUMENT.read_text())


@pytest.mark.anyio
@pytest.mark.parametrize("moment", ["0", "1772366400", "-1.5", "2026-03-01T12:00:00"])
async def test_a_time_is_rfc_3339_and_no_number(system: System, moment: str) -> None:
    answer = await system.call("GET", f"/v1/usage?to={moment}")

    assert answer.status == 422
    assert [error["field"] for error in answer.json["errors"]] == ["query.to"]
