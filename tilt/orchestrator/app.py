"""Puts the orchestrator together and keeps its clocks running."""

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import structlog
from coincurve import PrivateKey

from tilt.orchestrator.addresses import Address, parse_address
from tilt.orchestrator.auth_tokens import AuthTokens
from tilt.orchestrator.chain import ChainReader, RpcChain
from tilt.orchestrator.chain_view import ChainView
from tilt.orchestrator.challenges import Repeats
from tilt.orchestrator.faults import Faults
from tilt.orchestrator.intake import Intake
from tilt.orchestrator.journal import Journal
from tilt.orchestrator.ledger import Ledger, SeenNonces
from tilt.orchestrator.oddities import Oddities
from tilt.orchestrator.offer import Offer
from tilt.orchestrator.orchestrator import Orchestrator
from tilt.orchestrator.quotes import Quotes
from tilt.orchestrator.redemption import Redeemer, Redemption
from tilt.orchestrator.runners import Runners
from tilt.orchestrator.serving import serving
from tilt.orchestrator.sessions import Sessions
from tilt.orchestrator.settings import Settings
from tilt.orchestrator.signatures import public_key_address
from tilt.orchestrator.store import Store
from tilt.orchestrator.web3_redeemer import Web3Redeemer
from tilt.orchestrator.winners import Winners

CHAIN_POLL_SECONDS = 1
DEBIT_POLL_SECONDS = 0.5
REDEEM_POLL_SECONDS = 2

log = structlog.get_logger()


def run(settings: Settings) -> None:
    # The default renderer shows local variables, keys among them.
    renderer = structlog.dev.ConsoleRenderer(
        colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], renderer])
    asyncio.run(_run_until_stopped(settings))


async def _run_until_stopped(settings: Settings) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    chain = RpcChain(settings.rpc_url, settings.world, _recipient(settings))
    redeemer = Web3Redeemer(settings.rpc_url, settings.world, settings.key)
    async with running(settings, chain=chain, redeemer=redeemer, clock=time.time):
        log.info("orchestrator_started", url=settings.url, tls_url=settings.tls_url)
        await stopped.wait()


@asynccontextmanager
async def running(
    settings: Settings, *, chain: ChainReader, redeemer: Redeemer, clock: Callable[[], float]
) -> AsyncIterator[Orchestrator]:
    """Run the whole orchestrator; the chain, the redeemer and the clock are what tests replace."""
    orchestrator = build_orchestrator(settings, chain=chain, clock=clock)
    try:
        async with serving(settings, orchestrator), _working(orchestrator, redeemer):
            yield orchestrator
    finally:
        orchestrator.store.close()


def build_orchestrator(settings: Settings, *, chain: ChainReader, clock: Callable[[], float]) -> Orchestrator:
    store = Store(settings.state_dir)
    ledger, winners, journal = Ledger(), Winners(store), Journal()
    nonces = SeenNonces.remembering(store.nonces())
    quotes = Quotes(
        recipient=_recipient(settings),
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
        url=settings.url,
        tls_url=settings.tls_url,
        view=ChainView(chain),
        quotes=quotes,
        offer=Offer(base_price=settings.base_price, models={model.key: model for model in settings.models}),
        runners=Runners(settings.runners),
        ledger=ledger,
        sessions=Sessions(ledger),
        nonces=nonces,
        winners=winners,
        journal=journal,
        intake=intake,
        store=store,
        oddities=Oddities(quotes),
        faults=Faults(),
        repeats=Repeats(),
        clock=clock,
    )


@asynccontextmanager
async def _working(orchestrator: Orchestrator, redeemer: Redeemer) -> AsyncIterator[None]:
    with ThreadPoolExecutor(max_workers=1) as executor:
        redemption = Redemption(redeemer, orchestrator.winners, executor)
        tasks = [asyncio.create_task(work) for work in _work(orchestrator, redemption)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


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
