"""The orchestrator with a chain, a redeemer and a clock made by hand."""

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from coincurve import PrivateKey

from tests.unit.orchestrator.wire import Payer, headers, parse_info
from tilt.orchestrator.addresses import Address, checksummed, parse_address
from tilt.orchestrator.app import build_orchestrator
from tilt.orchestrator.chain import ChainUnreachableError, Funds, Head, World
from tilt.orchestrator.live_runners import LiveRunners
from tilt.orchestrator.offer import Model
from tilt.orchestrator.orchestrator import Orchestrator
from tilt.orchestrator.redemption import Transaction
from tilt.orchestrator.refusals import RefusedError
from tilt.orchestrator.runners import Runner
from tilt.orchestrator.sessions import Session
from tilt.orchestrator.settings import Settings
from tilt.orchestrator.signatures import public_key_address
from tilt.orchestrator.terms import Price, Terms
from tilt.orchestrator.tickets import Wei
from tilt.orchestrator.winners import Winner

KEY = bytes(31) + b"\x07"
RECIPIENT = Address(public_key_address(PrivateKey(KEY).public_key))
EV = 100
FACE_VALUE = 400
PRICE = 30
PIXEL_PRICE, PIXELS_PER_PRICE = 7, 1_000_003  # about 194 wei a second, and never a round sum
BLOCK_HASH = bytes(range(32))
ORIGIN = "http://127.0.0.1:1234"


@dataclass
class FakeChain:
    """A chain that is what the test says; `is_down` makes it unreachable."""

    current: Head = field(
        default_factory=lambda: Head(
            l1_block=1000,
            last_initialized_round=10,
            creation_round=10,
            creation_round_block_hash=BLOCK_HASH,
            pool_size=100,
            recipient_is_active=True,
        )
    )
    sender: Funds = field(
        default_factory=lambda: Funds(
            deposit=Wei(10**9),
            withdraw_round=0,
            reserve=Wei(100 * FACE_VALUE * 1000),
            claimed_in_current_round=Wei(0),
            claimed_by_recipient=Wei(0),
        )
    )
    is_down: bool = False

    async def head(self) -> Head:
        if self.is_down:
            raise ChainUnreachableError("down")
        return self.current

    async def funds(self, sender: Address) -> Funds:
        del sender
        if self.is_down:
            raise ChainUnreachableError("down")
        return self.sender


@dataclass
class FakeRedeemer:
    """Takes every ticket once, unless told to fail."""

    error: Exception | None = None
    used: set[bytes] = field(default_factory=set)

    def is_used(self, winner: Winner) -> bool:
        return winner.ticket.hash() in self.used

    def prepare(self, winner: Winner) -> Transaction:
        if self.error is not None:
            raise self.error
        return Transaction(hash=f"0x{winner.ticket.hash().hex()}", raw=winner.ticket.hash())

    def send(self, transaction: Transaction) -> None:
        if transaction.raw in self.used:
            raise AssertionError("sent twice")
        self.used.add(transaction.raw)


@dataclass
class FakeClock:
    now: float = 1_775_000_000.0

    def __call__(self) -> float:
        return self.now


def runners() -> list[Runner]:
    return [
        Runner(id="runner-1", app="demo/echo", price_per_unit=PRICE, capacity=2),
        Runner(
            id="pixels",
            app="demo/pixels",
            unit="720p-pixel-seconds",
            price_per_unit=PIXEL_PRICE,
            pixels_per_unit=PIXELS_PER_PRICE,
            capacity=2,
        ),
        Runner(id="once", app="demo/once", mode="single-shot", unit="fixed", price_per_unit=250, capacity=1),
        Runner(id="ticket", app="demo/ticket", unit="fixed", price_per_unit=100, capacity=2),
    ]


def models() -> list[Model]:
    return [
        Model(
            pipeline="live-video-to-video",
            name="flow",
            price_per_unit=PIXEL_PRICE,
            pixels_per_unit=PIXELS_PER_PRICE,
            capacity=2,
            runner_version="1.2.3",
        ),
        Model(pipeline="live-video-to-video", name="cold", price_per_unit=5, warm=False),
        Model(pipeline="byoc", name="tool", price_per_unit=3),
    ]


def settings(state_dir: Path, **changes: Any) -> Settings:  # any of the settings
    known = Settings(
        host="127.0.0.1",
        port=1234,
        tls_port=None,
        rpc_url="http://127.0.0.1:1",
        world=World(
            chain_id=42161,
            ticket_broker=checksummed(Address(bytes(20))),
            rounds_manager=checksummed(Address(bytes(20))),
            bonding_manager=checksummed(Address(bytes(20))),
            orchestrator=checksummed(RECIPIENT),
        ),
        key=KEY,
        state_dir=state_dir,
        terms=Terms(ticket_ev=Wei(EV), face_value=Wei(FACE_VALUE)),
        base_price=Price(7),
        runners=runners(),
        models=models(),
    )
    return replace(known, **changes)


@dataclass
class Stage:
    """An orchestrator without its HTTP side, and a payer who talks to it."""

    state_dir: Path
    chain: FakeChain = field(default_factory=FakeChain)
    clock: FakeClock = field(default_factory=FakeClock)
    payer: Payer = field(default_factory=Payer)
    orchestrator: Orchestrator = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.orchestrator = build_orchestrator(settings(self.state_dir), chain=self.chain, clock=self.clock)

    @property
    def sender(self) -> Address:
        return parse_address(self.payer.address)

    @property
    def live_runners(self) -> LiveRunners:
        return LiveRunners(self.orchestrator)

    @property
    def runner(self) -> Runner:
        return self.orchestrator.runners.known("runner-1")

    def balance(self, session_id: str) -> Any:  # a Fraction; compares with int
        account = self.orchestrator.ledger.find(self.sender, session_id)
        return account.balance if account else 0

    def win_almost_always(self) -> None:
        """Let 100 of 101 tickets win from now on."""
        quotes = self.orchestrator.quotes
        quotes.terms = replace(quotes.terms, face_value=Wei(EV + 1))

    def raise_price(self, price: int) -> None:
        runners = self.orchestrator.runners
        dearer = self.runner.model_copy(update={"price_per_unit": price})
        runners.replace([dearer, *[runner for runner in runners if runner.id != dearer.id]])

    async def challenge(self) -> Any:  # the SDK's protobuf has no types
        await self.orchestrator.look_at_chain()
        challenge = await self.live_runners.challenge(self.runner, self.sender, ORIGIN)
        return sdk_message(challenge.info)

    async def reserve(self, *nonces: int) -> Any:
        info = await self.challenge()
        await self.open(*self.payer.headers(info, nonces).values())
        return info

    async def open(self, payment: str, segment: str) -> Session:
        return await self.live_runners.reserve(self.runner, (payment, segment))

    async def pay(self, info: Any, payment: Any, *, signed_by: Payer | None = None) -> Any:
        """Pay for the session of this quote; the segment may be signed by somebody else."""
        session_id = info.auth_token.session_id
        segment = (signed_by or self.payer).segment(info, session_id)
        shown = tuple(headers(payment, segment).values())
        return await self.live_runners.pay("runner-1", session_id, (shown[0], shown[1]), ORIGIN)

    async def refusal(self, info: Any, payment: Any, **how: Any) -> tuple[int, str]:
        with pytest.raises(RefusedError) as refused:
            await self.pay(info, payment, **how)
        return refused.value.status, refused.value.text


def changed(message: Any, change: Callable[[Any], object]) -> Any:
    copy = type(message)()
    copy.CopyFrom(message)
    change(copy)
    return copy


def sdk_message(info: Any) -> Any:
    """Read our message with the SDK's schema, as it would arrive."""
    return parse_info(b64encode(info.SerializeToString()).decode())
