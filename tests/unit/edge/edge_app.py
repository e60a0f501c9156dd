"""The edge's HTTP application in this process, with stand-ins for the bus and the buckets behind it."""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from types import SimpleNamespace
from typing import Any, cast

from fastapi import FastAPI
from nats.errors import NoRespondersError
from starlette.types import Message, Scope

from contracts import api_keys
from contracts.accounts import Identity
from contracts.limits import (
    Limits,
    LimitsView,
    ReadLimits,
    RulesEntry,
    Scoped,
    SetLimits,
    plan_entry,
    scope_entry,
)
from contracts.message import Message as AnyMessage
from contracts.signer import GeneratePayment, PaymentSignedAnswer
from services.edge.admission import Admission, Paces
from services.edge.api import make_app
from services.edge.auth import Authenticator
from services.edge.caps import Pace
from services.edge.console.sessions import ConsoleSessions
from services.edge.event_log import EventLog
from services.edge.gate import Gate
from services.edge.hook_book import HookBook
from services.edge.known_accounts import KnownAccounts
from services.edge.networks import ClientAddresses, Networks
from services.edge.parts import Parts
from services.edge.recording_lines import delivery_line, event_line, ticket_line
from services.edge.rules import RuleBook
from services.edge.sightings import Sightings
from services.edge.tokens import SessionTokens
from shared.clock import SetClock

NOW = datetime(2031, 5, 17, 8, tzinfo=UTC)
PEPPER = b"a pepper of thirty-two characters"
PUBLIC_URL = "https://pay.example"
PEER, PROXY = "198.51.100.7", "10.0.0.1"
PAY = "/generate-live-payment"
NO_CAPS = Paces(unknown=None, payments=None)


@cache
def the_app() -> FastAPI:
    """Make it once: its first requests are slow. Edges take turns with it."""
    return make_app(None)


class FakeBucket:
    def __init__(self) -> None:
        self.ready = True
        self.entries: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        return self.entries.get(key)


class FakeBus:
    """Quota: it keeps what it was told to set, and puts it into the `rules` bucket as the real one does.

    `answers` says what else is answered, by subject; None: nobody listens.
    """

    def __init__(self, rules: FakeBucket) -> None:
        self.set: list[SetLimits] = []
        self.answers: dict[str, Callable[[dict[str, Any]], AnyMessage] | None] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self._rules = rules

    async def request(self, subject: str, data: bytes, timeout: float) -> Any:  # noqa: ARG002
        if subject in self.answers:
            self.asked.append((subject, json.loads(data)))
            answer = self.answers[subject]
            if answer is None:
                raise NoRespondersError
            return SimpleNamespace(data=answer(json.loads(data)).model_dump_json().encode())
        if subject == ReadLimits.subject:
            return _replied(ReadLimits.model_validate_json(data), Limits())
        assert subject == SetLimits.subject
        command = SetLimits.model_validate_json(data)
        self.set.append(command)
        rules = RulesEntry.model_validate({"rules": command.limits.model_dump()})
        self._rules.entries[scope_entry(command)] = rules.model_dump_json().encode()
        return _replied(command, command.limits)


def _replied(scope: Scoped, limits: Limits) -> Any:
    view = LimitsView(
        **scope.model_dump(include=set(Scoped.model_fields)),
        plan=None,
        time_zone="UTC",
        own=limits,
        effective=limits,
        rows=[],
        sessions=0,
        streams=0,
        suspended=False,
    )
    return SimpleNamespace(data=view.model_dump_json().encode())


class FakeGatherer:
    def __init__(self) -> None:
        self.payments: list[GeneratePayment] = []

    async def generate(self, payment: GeneratePayment, size: int) -> PaymentSignedAnswer:  # noqa: ARG002
        self.payments.append(payment)
        return PaymentSignedAnswer(index=0, body="{}")


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class Edge:
    """Everything of the edge but its server. `find` answers for accounts."""

    paces: Paces = NO_CAPS
    token_keys: tuple[bytes, ...] = (b"t" * 32,)
    administrators: frozenset[str] = frozenset()
    hook_secrets: frozenset[str] = frozenset()
    hook_keys: tuple[bytes, ...] = (b"h" * 32,)
    delivery_line: dict[str, Any] = field(default_factory=dict)
    event_line: dict[str, Any] = field(default_factory=dict)
    identities: FakeBucket = field(default_factory=FakeBucket)
    rules: FakeBucket = field(default_factory=FakeBucket)
    asked: list[str] = field(default_factory=list)
    clock: SetClock = field(default_factory=lambda: SetClock(NOW))

    def __post_init__(self) -> None:
        self.bus, self.gatherer = FakeBus(self.rules), FakeGatherer()
        self.deliveries = delivery_line(cast("Any", self.bus), **self.delivery_line)
        self.tickets = ticket_line(cast("Any", self.bus))
        self.usage_events = event_line(cast("Any", self.bus), **self.event_line)
        self.tokens = (
            SessionTokens(self.token_keys, issuer=PUBLIC_URL, clock=self.clock) if self.token_keys else None
        )
        authenticator = Authenticator(
            bucket=self.identities,
            find=self._find,
            pepper=PEPPER,
            clock=self.clock,
            administrators=self.administrators,
            tokens=self.tokens,
        )
        book = RuleBook(self.rules)
        addresses = ClientAddresses(Networks(["10.0.0.0/8"]))
        self.sightings = Sightings(cast("Any", self.bus), self.clock)
        self.admission = Admission(
            authenticator, book, addresses, self.paces, sightings=self.sightings, clock=self.clock
        )
        self.event_log = EventLog(cast("Any", self.bus))
        self._parts = Parts(
            client=cast("Any", self.bus),
            authenticator=authenticator,
            admission=self.admission,
            rules=book,
            tokens=self.tokens,
            gatherer=cast("Any", self.gatherer),
            sightings=self.sightings,
            deliveries=self.deliveries,
            tickets=self.tickets,
            known_accounts=KnownAccounts(cast("Any", self.bus)),
            usage_events=self.usage_events,
            hooks=HookBook(self.identities, self.hook_keys),
            signatures=cast("Any", None),
            orchestrators=cast("Any", SimpleNamespace(find=lambda _: b"[]")),
            public_url=PUBLIC_URL,
            events=self.event_log,
            hook_secrets=self.hook_secrets,
            clock=self.clock,
            console=ConsoleSessions(self.token_keys, issuer=PUBLIC_URL, clock=self.clock)
            if self.token_keys
            else None,
        )
        self._gate = Gate(the_app(), the_app().state.wire)

    async def _find(self, key_id: str) -> Identity | None:
        self.asked.append(key_id)
        return None

    def issue(self, account_id: str = "acme", user_id: str | None = None) -> api_keys.Key:
        key = api_keys.make()
        self.put(key, account_id=account_id, user_id=user_id)
        return key

    def put(
        self, key: api_keys.Key, status: str = "active", account_id: str = "acme", user_id: str | None = None
    ) -> None:
        identity = Identity.model_validate(
            {
                "key_id": key.key_id,
                "account_id": account_id,
                "user_id": user_id,
                "secret_hash": key.hash(PEPPER),
                "status": status,
            }
        )
        self.identities.entries[key.key_id] = identity.model_dump_json().encode()

    def rule(self, scope: Scoped | str, **entry: Any) -> None:
        """Have an entry of the rules bucket: of a scope, or of a plan by its name."""
        name = plan_entry(scope) if isinstance(scope, str) else scope_entry(scope)
        self.rules.entries[name] = RulesEntry.model_validate(entry).model_dump_json().encode()

    async def call(
        self,
        method: str,
        path: str,
        *,
        credential: str | None = None,
        body: bytes | str = b"",
        peer: str | None = PEER,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        sent = {"authorization": f"Bearer {credential}"} if credential is not None else {}
        data = body.encode() if isinstance(body, str) else body
        sent |= {"content-length": str(len(data)), **(headers or {})}
        the_app().state.parts = self._parts
        return await _ask(self._gate, _scope(method, path, sent, peer), data)

    async def pay(self, credential: str | None, **options: Any) -> Answer:
        return await self.call("POST", PAY, credential=credential, body="{}", **options)

    async def exchange(self, credential: str | None, **parameters: Any) -> Answer:
        """Ask for a session token, as JSON."""
        asked = {"grant_type": "urn:ietf:params:oauth:grant-type:token-exchange", **parameters}
        return await self.call(
            "POST",
            "/v1/tokens",
            credential=credential,
            body=json.dumps(asked),
            headers={"content-type": "application/json"},
        )


def capped(per_second: float, burst: float) -> Paces:
    return Paces(unknown=Pace(per_second, burst), payments=None)


def _scope(method: str, path: str, headers: Mapping[str, str], peer: str | None) -> Scope:
    path, _, query = path.partition("?")
    return {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "scheme": "http",
        "server": ("edge", 80),
        "client": (peer, 4711) if peer else None,
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
    }


async def _ask(app: Callable[[Scope, Any, Any], Awaitable[None]], scope: Scope, body: bytes) -> Answer:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], headers, b"".join(part["body"] for part in sent[1:]).decode())
