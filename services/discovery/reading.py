"""Reads what orchestrators answer. Any of it may be wrong, and none of it may cost us much.

JSON is read as go-livepeer's encoding/json reads it: unknown fields are ignored, names match
whatever their case, null is as good as absent, and one value of a wrong type spoils the document.
"""

import json
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any

from google.protobuf.message import DecodeError
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from contracts.discovery import JSON_NUMBER
from contracts.livepeer.capabilities import PIPELINES, MaxPrices
from contracts.livepeer.payments_pb2 import OrchestratorInfo, PriceInfo
from services.discovery.domain import Gpu, Listing, Offer, Price, Runner
from services.discovery.outgoing import is_http_url

OFFERS_MAX = 256  # models of one orchestrator
LISTINGS_MAX = 64  # addresses in one document
RUNNERS_MAX = 256  # in one document
MODEL_MAX = 256  # characters


class UnusableAnswerError(Exception):
    """An orchestrator's answer that nothing can be made of."""


@dataclass(frozen=True, slots=True)
class Info:
    """What of an OrchestratorInfo matters here; `address` is empty if it is no URL."""

    address: str
    offers: tuple[Offer, ...]


@dataclass(frozen=True, slots=True)
class _Number:
    """A number with a point or an exponent, as it was written."""

    text: str


def read_info(encoded: bytes, prices: MaxPrices) -> Info:
    """Raises UnusableAnswerError where the orchestrator has to be dropped (§14)."""
    try:
        info = OrchestratorInfo.FromString(encoded)
    except DecodeError as problem:
        raise UnusableAnswerError(f"no OrchestratorInfo: {problem}") from problem
    if not info.address:
        raise UnusableAnswerError("it has no address")
    if not info.HasField("price_info") or info.price_info.pixels_per_unit == 0:
        raise UnusableAnswerError("it has no price")
    address = info.transcoder if is_http_url(info.transcoder) else ""
    return Info(address, _offers(info, prices))


def _offers(info: OrchestratorInfo, prices: MaxPrices) -> tuple[Offer, ...]:
    own_prices: dict[tuple[int, str], Fraction] = {}
    for told in info.capabilities_prices:
        if (price := _price(told)) is not None:
            own_prices.setdefault((told.capability, told.constraint), price)
    general = _price(info.price_info)
    models = [
        (capability, model)
        for capability, constraints in info.capabilities.constraints.per_capability.items()
        if capability in PIPELINES
        for model in constraints.models
        if 0 < len(model) <= MODEL_MAX
    ]
    return tuple(
        Offer(
            f"{PIPELINES[capability]}/{model}",
            own_prices.get((capability, model), general),
            prices.of_model(capability, model),
        )
        for capability, model in sorted(models)[:OFFERS_MAX]
    )


def _price(told: PriceInfo) -> Fraction | None:
    return Fraction(told.price_per_unit, told.pixels_per_unit) if told.pixels_per_unit > 0 else None


def read_listings(body: bytes) -> tuple[Listing, ...]:
    """The entries of a `/discovery` document, so many of them as we take from one orchestrator.

    Raises UnusableAnswerError.
    """
    try:
        content = json.loads(
            body.decode(errors="replace"),
            parse_float=_Number,
            parse_constant=_refuse_constant,
            object_pairs_hook=_fold,
        )
        entries = _DOCUMENT.validate_python(content)
    except (ValueError, RecursionError) as problem:
        raise UnusableAnswerError(f"no discovery document: {_short(problem)}") from problem
    left, listings = RUNNERS_MAX, []
    for entry in [entry for entry in entries or () if entry and is_http_url(entry.address)][:LISTINGS_MAX]:
        runners = tuple((runner or _Runner()).to_domain() for runner in entry.runners[:left])
        listings.append(Listing(entry.address, runners))
        left -= len(runners)
    return tuple(listings)


def _fold(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name.casefold(): value for name, value in pairs if value is not None}


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _short(problem: Exception) -> str:
    if isinstance(problem, ValidationError):
        first = problem.errors(include_url=False, include_input=False, include_context=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(problem)


def _whole(text: object) -> object:
    """Replace halves of characters, which JSON can write and nothing can encode."""
    if isinstance(text, str) and not text.isascii():
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _number(value: object) -> object:
    if isinstance(value, _Number):
        return value.text
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and re.fullmatch(JSON_NUMBER, value):
        return value
    raise ValueError("not a number")


type _Text = Annotated[str, BeforeValidator(_whole)]
type _Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63)]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class _Gpu(_Part):
    id: _Text = ""
    name: _Text = ""
    vram_mb: _Int64 = 0


class _PriceInfo(_Part):
    price: Annotated[str, BeforeValidator(_number)] = ""
    currency: _Text = ""
    unit: _Text = ""


class _Runner(_Part):
    url: _Text = ""
    gpu: _Gpu | None = None
    app: _Text = ""
    version: _Text = ""
    metadata: _Text = ""
    mode: _Text = ""
    capacity: _Int64 = 0
    capacity_used: _Int64 = 0
    capacity_available: _Int64 = 0
    price_info: _PriceInfo | None = None

    def to_domain(self) -> Runner:
        gpu, price = self.gpu, self.price_info
        return Runner(
            url=self.url,
            app=self.app,
            version=self.version,
            metadata=self.metadata,
            mode=self.mode,
            capacity=self.capacity,
            capacity_used=self.capacity_used,
            capacity_available=self.capacity_available,
            gpu=None if gpu is None else Gpu(gpu.id, gpu.name, gpu.vram_mb),
            price=None if price is None else Price(price.price, price.currency, price.unit),
        )


class _Entry(_Part):
    address: _Text = ""
    runners: list[_Runner | None] = []


_DOCUMENT = TypeAdapter(list[_Entry | None] | None)
