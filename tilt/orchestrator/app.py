"""Puts the orchestrator together and keeps its clocks running."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor

import structlog
from aiohttp import web
from coincurve import PrivateKey

from tilt.orchestrator.addresses import Address, parse_address
from tilt.orchestrator.auth_tokens import AuthTokens
from tilt.orchestrator.chain import ChainReader, RpcChain
from tilt.orchestrator.chain_view import ChainView
from tilt.orchestrator.intake import Intake
from tilt.orchestrator.journal import Journal
from tilt.orchestrator.ledger import Ledger, SeenNonces
from tilt.orchestrator.orchestrator import Orchestrator
from tilt.orchestrator.quotes import Quotes
from tilt.orchestrator.redemption import Redeemer, Redemption
from tilt.orchestrator.server import Server
from tilt.orchestrator.sessions import Sessions
from tilt.orchestrator.settings import Settings
from tilt.orchestrator.signatures import public_key_address
from tilt.orchestrator.store import Store
from tilt.orchestrator.web3_redeemer import Web3Redeemer
from tilt.orchestrator.winners import Winners

HEADER_MAX_BYTES = 2**20  # a hundred tickets are about 10 kB, above aiohttp's default
CHAIN_POLL_SECONDS = 1
DEBIT_POLL_SECONDS = 0.5
REDEEM_POLL_SECONDS = 2

log = structlog.get_logger()


def run(settings: Settings) -> None:
    chain = RpcChain(settings.rpc_url, settings.world, _recipient(settings))
    redeemer = Web3Redeemer(settings.rpc_url, settings.world, settings.key)
    app = build_web_app(settings, chain=chain, redeemer=redeemer)
    # The default renderer shows local variables, keys among them.
    renderer = structlog.dev.ConsoleRenderer(
        colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], renderer])
    log.info("orchestrator_started", url=settings.url, app=settings.app)
    web.run_app(
        app,
        host="127.0.0.1",
        port=settings.port,
        print=None,
        access_log=None,
        shutdown_timeout=1,
        max_line_size=HEADER_MAX_BYTES,
        max_field_size=HEADER_MAX_BYTES,
    )


def build_web_app(
    settings: Settings,
    *,
    chain: ChainReader,
    redeemer: Redeemer,
    clock: Callable[[], float] = time.time,
) -> web.Application:
    """Compose everything; the chain, the redeemer and the clock are what tests replace."""
    orchestrator = build_orchestrator(settings, chain=chain, clock=clock)
    app = Server(orchestrator, app=settings.app).web_app()

    async def background(_: web.Application) -> AsyncIterator[None]:
        with ThreadPoolExecutor(max_workers=1) as executor:
            redemption = Redemption(redeemer, orchestrator.winners, executor)
            tasks = [asyncio.create_task(work) for work in _work(orchestrator, redemption)]
            yield
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        orchestrator.store.close()

    app.cleanup_ctx.append(background)
    return app


def build_orchestrator(settings: Settings, *, chain: ChainReader, clock: Callable[[], float]) -> Orchestrator:
    store = Store(settings.state_dir)
    ledger, winners, journal = Ledger(), Winners(store), Journal()
    nonces = SeenNonces.remembering(store.nonces())
    quotes = Quotes(
        recipient=_recipient(settings),
        url=settings.url,
        terms=settings.terms,
        ticket_secret=store.secret("tickets"),
        tokens=AuthTokens(store.secret("auth_tokens")),
        clock=clock,
    )
    intake = Intake(
        recipient=quotes.recipient,
        ticket_secret=lambda: quotes.ticket_secret,
        ledger=ledger,
        nonces=nonces,
        winners=winners,
        journal=journal,
        store=store,
    )
    return Orchestrator(
        view=ChainView(chain),
        quotes=quotes,
        ledger=ledger,
        sessions=Sessions(ledger, settings.capacity),
        nonces=nonces,
        winners=winners,
        journal=journal,
        intake=intake,
        store=store,
        clock=clock,
    )


def _work(orchestrator: Orchestrator, redemption: Redemption) -> list[Coroutine[None, None, None]]:
    async def debit() -> None:
        orchestrator.sessions.debit(orchestrator.clock())

    async def redeem() -> None:
        if orchestrator.view.last_head is not None:
            await redemption.redeem_due(orchestrator.view.last_head)

    return [
        _repeat(orchestrator.look_at_chain, CHAIN_POLL_SECONDS),
        _repeat(debit, DEBIT_POLL_SECONDS),
        _repeat(redeem, REDEEM_POLL_SECONDS),
    ]


async def _repeat(step: Callable[[], Awaitable[None]], seconds: float) -> None:
    while True:
        try:
            await step()
        except Exception:
            # One bad answer of a node must not stop the clocks for good.
            log.exception("background_step_failed", step=step.__name__)
        await asyncio.sleep(seconds)


def _recipient(settings: Settings) -> Address:
    """Derive our address, which must be the one the chain pays."""
    address = Address(public_key_address(PrivateKey(settings.key).public_key))
    if address != parse_address(settings.world.orchestrator):
        raise ValueError("the key file is not the key of the orchestrator that world.json names")
    return address
