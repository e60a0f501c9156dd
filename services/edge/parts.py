"""What the routes work with, put together once by `services.edge.app`."""

from dataclasses import dataclass, field

from nats.aio.client import Client
from starlette.requests import HTTPConnection

from services.edge.admission import Admission
from services.edge.auth import Authenticator
from services.edge.console.sessions import ConsoleSessions
from services.edge.discovery import ObservedOrchestrators
from services.edge.event_log import EventLog
from services.edge.gather import Gatherer
from services.edge.hook_book import HookBook
from services.edge.known_accounts import KnownAccounts
from services.edge.payer import PayerSignatures
from services.edge.recording_lines import DeliveryLine, EventLine, TicketLine
from services.edge.rules import RuleBook
from services.edge.sightings import Sightings
from services.edge.tokens import SessionTokens
from shared.clock import Clock


@dataclass(frozen=True, slots=True)
class Parts:
    client: Client
    authenticator: Authenticator
    admission: Admission
    rules: RuleBook
    tokens: SessionTokens | None  # None: no keys to make them with
    gatherer: Gatherer
    sightings: Sightings
    deliveries: DeliveryLine
    tickets: TicketLine
    known_accounts: KnownAccounts
    usage_events: EventLine
    hooks: HookBook
    signatures: PayerSignatures
    orchestrators: ObservedOrchestrators
    public_url: str
    events: EventLog
    hook_secrets: frozenset[str] = frozenset()  # sha256 in hex of what hooks' callers show
    clock: Clock = field(default_factory=Clock)
    console: ConsoleSessions | None = None  # None: no keys to make them with


def parts_of(connection: HTTPConnection) -> Parts:
    parts = connection.app.state.parts
    assert isinstance(parts, Parts)
    return parts
