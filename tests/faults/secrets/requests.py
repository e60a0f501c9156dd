"""Requests that carry a secret or a person's address where none belongs."""

import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote

import aiohttp

from tests.acceptance.system import Account, Answer, System
from tests.acceptance.wire import SIGNER, Challenge, Paid, Payer, request
from tests.faults.secrets.canaries import Canaries

JSON = {"Content-Type": "application/json"}
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
DISCOVER, SIGN = "/discover-orchestrators", "/sign-orchestrator-info"


async def exchange(system: System, account: Account, canaries: Canaries) -> str:
    """A session token of the account's; the only answer that may tell it."""
    body = {"grant_type": EXCHANGE, "user_id": "user-7"}
    issued = (await system.call("POST", "/v1/tokens", key=account.api_key, body=body)).json
    canaries.add_session_token(account.account_id, issued["access_token"], issued["sdk_token"])
    return str(issued["access_token"])


async def all_of_them(
    system: System, account: Account, token: str, canaries: Canaries
) -> AsyncIterator[Answer]:
    """Make them one by one; whatever they are answered with is an output as well."""
    payer = Payer(system, account)
    challenge = await payer.challenge()
    paid = await payer.pay(challenge)
    for headers in [*_headers(account, canaries), *_token_headers(account, token)]:
        for method, path in (("GET", DISCOVER), ("POST", SIGN), ("GET", "/v1/me")):
            yield await _send(system, method, path, headers, b"{}")
        yield await _send(system, "POST", SIGNER, headers, request(challenge))
    for body in _payments(challenge, paid, canaries):
        yield await _send(system, "POST", SIGNER, account.headers, body)
    for path, headers, body in _hooks(system, account, token, canaries):
        yield await _send(system, "POST", path, headers, json.dumps(body).encode())
    for key in (account.api_key, token, system.world.admin_key):
        shown = {"Authorization": f"Bearer {key}"}
        for method, path in _paths(account, canaries):
            yield await _send(system, method, path, shown, b"{}")
        for method, path, body in _bodies(account, canaries):
            yield await _send(system, method, path, shown, json.dumps(body).encode())
            yield await _send(system, method, path, shown, json.dumps(body).encode()[:-1])


async def _send(system: System, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
    data = None if method == "GET" else body
    try:
        return await system.send(method, path, data=data, headers={**JSON, **headers})
    except aiohttp.ClientError as problem:  # it was hung up on: what it read is an answer, too
        return Answer(0, {}, repr(problem).encode())


def _headers(account: Account, canaries: Canaries) -> list[dict[str, str]]:
    basic = b64encode(f"ann:{canaries.plant('password of a Basic header')}".encode()).decode()
    good = account.headers
    names = ("Clearinghouse-User", "Clearinghouse-Stream", "Idempotency-Key", "User-Agent", "Referer",
             "Cookie", "X-Forwarded-For", "Livepeer-Segment", "Signer-Identity", "X-Request-Id")  # fmt: skip
    return [
        *({**good, name: canaries.mail(f"header {name}")} for name in names),
        *({**good, name: canaries.plant(f"secret in {name}")} for name in ("Cookie", "X-Api-Key")),
        {"Authorization": f"Basic {basic}"},
        {"Authorization": f"Bearer {canaries.plant('token that is no key')}"},
        {"Authorization": f"Bearer {account.api_key[:-1]}-"},
        {"Authorization": f"Bearer {_made_up(account)}"},
        {"Authorization": account.api_key},
        {"Authorization": f"Bearer {account.sdk_token}"},
        {**good, "Clearinghouse-User": account.api_key},
        {**good, "Content-Encoding": canaries.plant("secret in Content-Encoding")},
    ]


def _token_headers(account: Account, token: str) -> list[dict[str, str]]:
    return [
        {"Authorization": f"Bearer {token}"},
        {"Authorization": f"Bearer {token[:-2]}"},
        {"Authorization": token},
        {**account.headers, "Clearinghouse-User": token[:100]},
        {**account.headers, "Clearinghouse-Stream": token},
    ]


def _hooks(
    system: System, account: Account, token: str, canaries: Canaries
) -> list[tuple[str, dict[str, str], Any]]:
    """Path, headers and body; what gateways and signers show stands in query, header and body."""
    secret, mail = system.world.hook_secret, canaries.mail
    basic = b64encode(f"ann:{account.api_key}".encode()).decode()
    asked = {
        "headers": {"Authorization": [f"Bearer {account.api_key}"]},
        "state": {"App": mail("hook's App")},
    }
    shown = [
        {"Authorization": f"Bearer {secret}"},
        {"X-Webhook-Secret": secret},
        {"X-Api-Key": secret},
        {"X-Api-Key": canaries.plant("hook secret that is none")},
        {"Authorization": f"Bearer {token}"},
    ]
    url = f"rtmp://gateway/{mail("stream's URL")}?key={account.api_key}"
    return [
        *(("/authorize", headers, asked) for headers in shown),
        (
            "/authorize",
            shown[0],
            {**asked, "headers": {"Authorization": [f"Bearer {token}"]}, "state": token},
        ),
        (f"/auth/stream?key={account.api_key}", {}, {"url": url}),
        (f"/auth/stream?key={token}", {}, {"url": url}),
        (f"/auth/stream?key={canaries.plant('key of a hook that is none')}", {}, {"url": url}),
        (f"/auth/stream?user={quote(mail('user of a hook'))}", account.headers, {"url": url}),
        (f"/auth/stream?app={account.api_key}", {"Authorization": f"Basic {basic}"}, {"url": 7}),
    ]


def _made_up(account: Account) -> str:
    """A key of the right form, with another id."""
    return account.api_key.replace(account.key_id, account.key_id[::-1])


def _payments(challenge: Challenge, paid: Paid, canaries: Canaries) -> list[bytes]:
    mail = canaries.mail
    bodies: list[dict[str, Any]] = [
        {"type": mail("payment type")},
        {"orchestrator": mail("payment orchestrator")},
        {"orchestrator": b64encode(mail("payment orchestrator, encoded").encode()).decode()},
        {"capabilities": mail("payment capabilities")},
        {"RequestID": mail("payment RequestID")},
        {"unknown": mail("payment unknown field")},
        {"InPixels": mail("payment InPixels")},
        {"state": {"State": mail("payment State"), "Sig": mail("payment Sig")}},
        {"state": {**paid.state, "Sig": b64encode(mail("payment Sig, encoded").encode()).decode()}},
        {"state": {**paid.state, "State": b64encode(mail("payment State, encoded").encode()).decode()}},
    ]
    broken = [mail("payment that is no JSON").encode(), f'{{"{mail("payment cut off")}": '.encode()]
    huge = json.dumps({"pad": "x" * 70_000, "mail": mail("payment that is too large")}).encode()
    return [*(request(challenge, **{"ManifestID": None, **body}) for body in bodies), *broken, huge]


def _paths(account: Account, canaries: Canaries) -> list[tuple[str, str]]:
    own = f"/v1/accounts/{account.account_id}"
    mail, plant = canaries.mail, canaries.plant
    cursor = urlsafe_b64encode(json.dumps([mail("cursor")]).encode()).decode()
    return [
        ("GET", f"/v1/accounts/{quote(mail('account id'))}"),
        ("GET", f"/v1/accounts/{account.api_key}/usage"),
        ("GET", f"/v1/sessions/{quote(mail('session id'))}"),
        ("GET", f"/v1/sessions/{canaries.word('session id')}?account={account.account_id}"),
        ("DELETE", f"{own}/keys/{quote(mail('key id'))}"),
        ("DELETE", f"{own}/keys/{account.api_key}"),
        ("GET", f"{DISCOVER}?caps={quote(mail('query of the wire'))}&token={account.api_key}"),
        ("GET", f"{own}/usage?user_id={quote(mail('user_id'))}"),
        ("GET", f"{own}/usage?from={quote(mail('from'))}&group_by={quote(mail('group_by'))}"),
        ("GET", f"{own}/usage?limit=1&group_by=user&cursor={cursor}"),
        ("GET", f"{own}/sessions?cursor={cursor}"),
        ("GET", f"{own}/sessions?cursor={quote(mail('no cursor'))}&key={account.api_key}"),
        ("GET", f"/v1/pool?payer={quote(mail('payer'))}"),
        ("GET", f"/{quote(mail('unknown path'))}"),
        ("GET", f"/v1/{plant('unknown path of v1')}/{account.api_key}"),
        ("PATCH", f"{own}?token={plant('query')}"),
        ("POST", f"{SIGNER}/{quote(mail('below the wire'))}"),
    ]


def _bodies(account: Account, canaries: Canaries) -> list[tuple[str, str, Any]]:
    own = f"/v1/accounts/{account.account_id}"
    mail = canaries.mail
    return [
        ("POST", "/v1/accounts", {"account_id": mail("body account_id")}),
        ("POST", "/v1/accounts", {"account_id": "canary-1", "email": mail("body unknown field")}),
        ("POST", "/v1/accounts", {"account_id": "canary-1", "spend_limit_wei": mail("body limit")}),
        ("POST", "/v1/accounts", [mail("body that is a list")]),
        ("POST", f"{own}/keys", {"user_id": mail("body user_id")}),
        ("POST", f"{own}/keys", {"user_id": None, "api_key": account.api_key}),
        ("POST", f"{own}/suspend", {"reason": mail("body reason")}),
        ("PUT", f"{own}/limits", {"spend_limit_wei": canaries.plant("body limit")}),
        ("PUT", f"{own}/payer", {"payer": mail("body payer")}),
        ("PUT", f"{own}/limits", {"networks": [mail("body networks")], "apps": account.api_key}),
        ("PUT", f"{own}/users/{quote(mail('user of limits'))}/limits", {}),
        ("POST", f"{own}/credit", {"grant_id": mail("body grant_id"), "amount_micro_usd": 7}),
        ("POST", "/v1/streams", {"stream_id": mail("body stream_id"), "app": 7}),
        ("POST", "/v1/stops", {"stops": [{"what": "user", "value": mail("body stop")}]}),
        ("POST", "/v1/tokens", {"grant_type": mail("body grant_type"), "subject_token": account.api_key}),
        ("POST", "/v1/tokens", {"grant_type": EXCHANGE, "subject_token": canaries.plant("subject token")}),
    ]
