"""Which orchestrators a client may find, and with which capabilities and runners (protocol §9, §14)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from typing import Literal

UNITS = frozenset({"seconds", "720p-pixel-seconds", "fixed"})
METADATA_BYTES_MAX = 1024
URL_MAX = 2048  # characters
TEXT_MAX = 256  # characters of every other text
APP_BYTES_MAX = 256  # the signer pays for no longer one
INVALID_TEXT = "\ufffd"  # what unreadable bytes were replaced with
PRICE_DIGITS_MAX = 80
PRICE_EXPONENT_MAX = 60  # 10**60 wei is more than there is, and more would cost minutes to expand

type Refusal = Literal[
    "no_url", "no_app", "app_not_payable", "bad_metadata", "too_long", "bad_price", "bad_currency",
    "bad_unit", "too_expensive", "conflicting",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Gpu:
    id: str = ""
    name: str = ""
    vram_mb: int = 0


@dataclass(frozen=True, slots=True)
class Price:
    """As an orchestrator wrote it; `number` is a JSON number or empty."""

    number: str
    currency: str = ""
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    url: str = ""
    app: str = ""
    version: str = ""
    metadata: str = ""
    mode: str = ""
    capacity: int = 0
    capacity_used: int = 0
    capacity_available: int = 0
    gpu: Gpu | None = None
    price: Price | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """A model that an orchestrator runs. `price` and `ceiling` in wei per unit; no ceiling: any price."""

    capability: str  # pipeline/model
    price: Fraction | None
    ceiling: Fraction | None

    @property
    def is_eligible(self) -> bool:
        """It must have a price, which may be zero."""
        return self.price is not None and (self.ceiling is None or self.price <= self.ceiling)


@dataclass(frozen=True, slots=True)
class Listing:
    """One entry of a `/discovery` document, which may speak of another orchestrator than its own."""

    address: str
    runners: tuple[Runner, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one orchestrator answered in a sweep; `address` as it says itself, empty if none usable."""

    address: str
    offers: tuple[Offer, ...] = ()
    listings: tuple[Listing, ...] = ()


@dataclass(frozen=True, slots=True)
class Orchestrator:
    address: str
    capabilities: tuple[str, ...]
    runners: tuple[Runner, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """What a sweep comes to, and which runners were left out of it, by address and reason."""

    orchestrators: tuple[Orchestrator, ...]
    refused: Counter[tuple[str, Refusal]]


@dataclass(slots=True)
class _Node:
    address: str  # as it was written first
    capabilities: set[str] = field(default_factory=set)
    runner_by_url: dict[str, Runner] = field(default_factory=dict)

    def add(self, runner: Runner) -> Refusal | None:
        """The first of two runners with the same URL stays; what it runs is listed in any case."""
        self.capabilities.add(runner.app)
        kept = self.runner_by_url.setdefault(runner.url, runner)
        return None if _apart_from_use(kept) == _apart_from_use(runner) else "conflicting"


def merge(answers: Sequence[Answer], runner_ceiling: Fraction | None) -> Found:
    """One entry per address, those with an eligible offer first; only those with any capability.

    Addresses are the same with and without trailing slashes. Runners know the general ceiling only.
    """
    nodes: dict[str, _Node] = {}
    refused: Counter[tuple[str, Refusal]] = Counter()
    for answer in answers:
        eligible = {offer.capability for offer in answer.offers if offer.is_eligible}
        if answer.address and eligible:
            _node(nodes, answer.address).capabilities |= eligible
    for answer in answers:
        for listing in answer.listings:
            node = _node(nodes, listing.address)
            for runner in listing.runners:
                refusal = refusal_of(runner, runner_ceiling) or node.add(runner)
                if refusal is not None:
                    refused[listing.address, refusal] += 1
    return Found(tuple(_orchestrator(node) for node in nodes.values() if node.capabilities), refused)


def refusal_of(runner: Runner, ceiling: Fraction | None) -> Refusal | None:
    """Why a runner must not be listed; None if it may."""
    if not runner.url:
        return "no_url"
    if not runner.app.strip():
        return "no_app"
    if len(runner.app.encode()) > APP_BYTES_MAX or not runner.app.isprintable():
        return "app_not_payable"
    if len(runner.metadata.encode()) > METADATA_BYTES_MAX or INVALID_TEXT in runner.metadata:
        return "bad_metadata"
    if len(runner.url) > URL_MAX or any(len(text) > TEXT_MAX for text in _texts(runner)):
        return "too_long"
    return _refusal_of_price(runner.price, ceiling)


def _refusal_of_price(price: Price | None, ceiling: Fraction | None) -> Refusal | None:
    number = None if price is None else positive_decimal(price.number)
    if price is None or number is None:
        return "bad_price"
    if price.currency.strip().lower() != "wei":
        return "bad_currency"
    if price.unit.strip().lower() not in UNITS:
        return "bad_unit"
    return "too_expensive" if ceiling is not None and number > ceiling else None


def positive_decimal(number: str) -> Fraction | None:
    """A JSON number exactly; None unless it is positive and within our bounds."""
    mantissa, _, exponent = number.lower().partition("e")
    if not number or len(mantissa) > PRICE_DIGITS_MAX or len(exponent) > len(str(PRICE_EXPONENT_MAX)) + 1:
        return None
    value = Decimal(number)
    return Fraction(value) if value > 0 and abs(int(exponent or 0)) <= PRICE_EXPONENT_MAX else None


def _texts(runner: Runner) -> tuple[str, ...]:
    gpu, price = runner.gpu or Gpu(), runner.price or Price("")
    return (runner.version, runner.mode, gpu.id, gpu.name, price.currency, price.unit)


def _apart_from_use(runner: Runner) -> Runner:
    """How much of a runner is used changes while we look: it makes no conflict."""
    return replace(runner, capacity_used=0, capacity_available=0)


def _node(nodes: dict[str, _Node], address: str) -> _Node:
    return nodes.setdefault(address.rstrip("/"), _Node(address))


def _orchestrator(node: _Node) -> Orchestrator:
    return Orchestrator(node.address, tuple(sorted(node.capabilities)), tuple(node.runner_by_url.values()))
