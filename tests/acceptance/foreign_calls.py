"""Calls that name what is another account's, and how a list or a change of it is asked for."""

import json
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import urlencode

from tests.acceptance.system import Account


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
class Call:
    method: str
    path: str
    body: Any = None
    answers_own: bool = False  # it may succeed, with what is the caller's own
    repeats: bool = False  # its answer says again what it was asked with
    media_type: str = "application/json"


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


def change(method: str, path: str, body: Any = None) -> Callable[[Names, Account], Sequence[Call]]:
    """An operation on the foreign account, or with a foreign key of the caller's own account."""
    return lambda names, mine: [
        Call(method, path.format(**{**vars_of(names), "account_id": account_id}), body)
        for account_id in (names.account_id, mine.account_id)
    ]


def vars_of(names: Names) -> dict[str, str]:
    return {field.name: getattr(names, field.name) for field in fields(names)}
