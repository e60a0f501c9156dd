"""What the routes work with, put together once by `services.edge.app`."""

from dataclasses import dataclass

from nats.aio.client import Client
from starlette.requests import HTTPConnection

from services.edge.auth import Authenticator
from services.edge.discovery import ObservedOrchestrators
from services.edge.gather import Gatherer
from services.edge.payer import PayerSignatures


@dataclass(frozen=True, slots=True)
class Parts:
    client: Client
    authenticator: Authenticator
    gatherer: Gatherer
    signatures: PayerSignatures
    orchestrators: ObservedOrchestrators
    public_url: str


def parts_of(connection: HTTPConnection) -> Parts:
    parts = connection.app.state.parts
    assert isinstance(parts, Parts)
    return parts
