"""Small print of the wire, over plain HTTP: methods, paths, how bodies are read, what refusals carry."""

import json
from base64 import b64decode
from collections.abc import Sequence

import pytest

from tests.acceptance.scenarios.books import closed_books
from tests.acceptance.system import Account, Answer, System
from tests.acceptance.wire import SIGNER, Challenge, Paid, Payer, request

pytestmark = pytest.mark.anyio


@pytest.fixture
def payer(system: System, account: Account) -> Payer:
    return Payer(system, account)


@pytest.mark.parametrize("path", ["/healthz", "/discover-orchestrators", "/openapi.json", "/docs"])
async def test_head_is_answered_as_get_without_the_body(system: System, account: Account, path: str) -> None:
    got = await system.send("GET", path, headers=account.headers)
    head = await system.send("HEAD", path, headers=account.headers)

    assert (got.status, head.status, head.body) == (200, 200, b"")
    assert head.headers.get("Content-Type") == got.headers.get("Content-Type")


async def test_health_needs_no_key(system: System) -> None:
    assert (await system.send("GET", "/healthz")).status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", SIGNER),
        ("HEAD", SIGNER),
        ("PUT", SIGNER),
        ("GET", "/sign-orchestrator-info"),
        ("DELETE", "/sign-orchestrator-info"),
        ("POST", "/discover-orchestrators"),
        ("POST", "/healthz"),
    ],
)
async def test_a_wrong_method_is_405(system: System, account: Account, method: str, path: str) -> None:
    assert (await system.send(method, path, headers=account.headers)).status == 405


@pytest.mark.parametrize("path", ["/", "/generate-live-payments", f"{SIGNER}/", f"/signer{SIGNER}"])
async def test_an_unknown_path_is_404(system: System, account: Account, path: str) -> None:
    assert (await system.send("POST", path, data=b"{}", headers=account.headers)).status == 404


async def test_one_request_is_read_the_same_however_it_is_written(system: System, payer: Payer) -> None:
    challenge = await payer.challenge()
    content = json.loads(request(challenge))
    octets = list(b64decode(challenge.payment_params))

    answers = [
        await payer.ask(request(challenge)),
        await payer.ask(request(challenge) + b' {"orchestrator": 7} and so on'),
        await payer.ask(json.dumps({**content, "orchestrator": octets}).encode()),
        await payer.ask(json.dumps({key.swapcase(): value for key, value in content.items()}).encode()),
        await payer.ask(json.dumps({**content, "state": None, "capabilities": None}).encode()),
        await payer.ask(json.dumps({**content, "state": {"State": None, "Sig": None}}).encode()),
        await payer.ask(json.dumps({**content, "capability": "x", "unheard-of": [1]}).encode()),
        await payer.ask(json.dumps(content, indent=4).encode()),
    ]

    assert {(answer.status, answer.body) for answer in answers} == {(200, answers[0].body)}
    assert answers[0].body.endswith(b"\n")
    assert (await closed_books(system, payer.account)).totals.payments == 1


async def test_state_may_come_as_numbers_and_in_any_case(payer: Payer) -> None:
    challenge = await payer.challenge()
    paid = await payer.pay(challenge)
    octets = {key.upper(): list(b64decode(value)) for key, value in paid.state.items()}

    second = Paid.read(await payer.ask(request(challenge, octets)))

    assert second.session_id == paid.session_id
    assert second.nonces[0] == paid.nonces[-1] + 1


async def test_a_header_that_claims_to_know_who_asks_is_not_read(system: System, payer: Payer) -> None:
    body = request(await payer.challenge())
    claims = {"Signer-Auth-Id": "somebody:else", "Livepeer-Capability": "x"}

    claimed = await system.send("POST", SIGNER, data=body, headers={**payer.account.headers, **claims})
    again = await payer.ask(body)
    without_key = await system.send("POST", SIGNER, data=body, headers=claims)

    assert (claimed.status, again.body) == (200, claimed.body)
    assert without_key.status == 401


async def test_content_types_do_not_matter(system: System, payer: Payer) -> None:
    challenge = await payer.challenge()
    headers = {**payer.account.headers, "Content-Type": "text/plain; charset=latin-1"}

    assert (await system.send("POST", SIGNER, data=request(challenge), headers=headers)).status == 200


async def test_each_refusal_carries_its_request_id(system: System, payer: Payer) -> None:
    challenge = await payer.challenge()
    refused = await _refusals(system, payer, challenge)

    assert [answer.status for answer in refused] == [401, 405, 400, 400, 480, 481, 413, 404]
    ids = [answer.headers["X-Request-Id"] for answer in refused]
    assert len(set(ids)) == len(ids)
    for answer, request_id in zip(refused, ids, strict=True):
        assert request_id in answer.body.decode(), answer


async def _refusals(system: System, payer: Payer, challenge: Challenge) -> Sequence[Answer]:
    old = challenge.info
    old.ticket_params.expiration_block = b"\1"
    cheap = {"price": 1, "currency": "wei", "unit": "seconds"}
    return [
        await system.send("POST", SIGNER, data=b"{}"),
        await system.send("PATCH", SIGNER, headers=payer.account.headers),
        await payer.ask(b"{}"),
        await payer.ask(request(challenge, inPixels=1.5)),
        await payer.ask(request(challenge.quoting(old))),
        await payer.ask(request(challenge, maxPrice=cheap)),
        await payer.ask(b" " * 70_000),
        await system.send("POST", "/nothing-here", headers=payer.account.headers),
    ]
