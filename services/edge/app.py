"""The edge, put together: `python -m services.edge.app`."""

import asyncio
import gc
import signal

import structlog
import uvloop
from nats.aio.client import Client

from contracts.accounts import IDENTITIES, FindIdentity, Identity
from contracts.discovery import ORCHESTRATORS
from contracts.limits import RULES
from contracts.signer import OrchestratorInfoSigned, SignOrchestratorInfo
from services.edge.admission import Admission
from services.edge.api import make_app
from services.edge.auth import Authenticator
from services.edge.discovery import ObservedOrchestrators
from services.edge.event_log import EventLog
from services.edge.gate import Gate
from services.edge.gather import Gatherer
from services.edge.hook_book import HookBook
from services.edge.known_accounts import KnownAccounts
from services.edge.networks import ClientAddresses, Networks
from services.edge.parts import Parts
from services.edge.payer import PayerSignatures
from services.edge.recording_lines import delivery_line, event_line, ticket_line
from services.edge.rules import RuleBook
from services.edge.server import Health, health_server, public_server
from services.edge.settings import Settings
from services.edge.sightings import Sightings
from services.edge.tokens import SessionTokens
from shared import logging
from shared.bucket import BucketReader
from shared.bus import CommandRefusedError, ServiceUnavailableError, ask, connect
from shared.service import background

SERVICE = "edge"
GARBAGE_ALLOCATIONS = 20_000  # between collections; requests leave few cycles behind

log = structlog.get_logger()


def make_parts(
    settings: Settings,
    client: Client,
    bucket: BucketReader,
    orchestrators: BucketReader,
    rules: BucketReader,
) -> Parts:
    async def ask_signer(account_id: str, payer: str | None) -> OrchestratorInfoSigned:
        asked = SignOrchestratorInfo(account_id=account_id, payer=payer)
        return await ask(client, asked, OrchestratorInfoSigned)

    clock, tokens, book = settings.clock(), settings.session_tokens(), RuleBook(rules)
    authenticator = _authenticator(settings, client, bucket, tokens)
    addresses, sightings = ClientAddresses(Networks(settings.proxies())), Sightings(client, clock)
    return Parts(
        client=client,
        authenticator=authenticator,
        admission=Admission(
            authenticator, book, addresses, settings.paces(), sightings=sightings, clock=clock
        ),
        rules=book,
        tokens=tokens,
        gatherer=Gatherer(
            client,
            partitions=settings.signer_partitions,
            timeout_seconds=settings.payment_timeout_seconds,
            waiting_max=settings.payments_waiting_max,
        ),
        sightings=sightings,
        deliveries=delivery_line(client),
        tickets=ticket_line(client),
        known_accounts=KnownAccounts(client),
        usage_events=event_line(client),
        hooks=HookBook(bucket, settings.keys_of_hooks()),
        signatures=PayerSignatures(ask_signer),
        orchestrators=ObservedOrchestrators(orchestrators),
        public_url=settings.public_url,
        events=EventLog(client),
        hook_secrets=settings.hook_secrets(),
        clock=clock,
        console=settings.console_sessions(),
    )


def _authenticator(
    settings: Settings, client: Client, bucket: BucketReader, tokens: SessionTokens | None
) -> Authenticator:
    async def find(key_id: str) -> Identity | None:
        try:
            return await ask(client, FindIdentity(key_id=key_id), Identity)
        except CommandRefusedError as refused:
            if refused.refusal.code != "key_not_found":
                raise ServiceUnavailableError(refused.refusal.message) from refused
            return None

    return Authenticator(
        bucket=bucket,
        find=find,
        pepper=settings.key_pepper.get_secret_value().encode(),
        clock=settings.clock(),
        administrators=settings.administrators(),
        tokens=tokens,
    )


async def main() -> None:
    settings = Settings()
    logging.configure(SERVICE, settings.log_level)
    client = await connect(SERVICE, settings.nats_url.get_secret_value())
    bucket = BucketReader(client, IDENTITIES)
    orchestrators = BucketReader(client, ORCHESTRATORS)
    rules = BucketReader(client, RULES)
    parts = make_parts(settings, client, bucket, orchestrators, rules)
    app = make_app(parts)
    server = public_server(
        Gate(app, app.state.wire),
        settings.public_host,
        settings.public_port,
        connections_max=settings.connections_max,
    )
    health = Health(lambda: bucket.ready and rules.ready and client.is_connected and server.started)
    side = health_server(health, settings.http_host, settings.http_port)
    gc.freeze()  # what lives as long as the process need not be looked at again and again
    gc.set_threshold(GARBAGE_ALLOCATIONS)

    def stop(number: int) -> None:
        parts.events.close()
        server.handle_exit(number, None)

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop, number)
    lines = [parts.gatherer.run, parts.deliveries.run, parts.sightings.run]
    lines += [parts.usage_events.run, parts.tickets.run]
    async with background([bucket.run, orchestrators.run, rules.run, *lines]):
        beside = asyncio.create_task(side.serve())
        await server.serve()  # until told to stop, and until what was under way is answered
        side.should_exit = True
        await beside
    await client.close()


if __name__ == "__main__":
    uvloop.run(main())
