"""What is on offer beside live runners: models by capability, each with its price (§7.2, §9)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from contracts.livepeer import payments_pb2 as pb
from tilt.orchestrator.capabilities import bitstring
from tilt.orchestrator.refusals import RefusedError
from tilt.orchestrator.terms import INT64_END, Price

LIVE_VIDEO = "live-video-to-video"
BYOC = "byoc"
CAPABILITY_BY_PIPELINE = {LIVE_VIDEO: 35, BYOC: 37}
# What every go-livepeer orchestrator can do: formats, profiles, storages, and auth tokens (12).
DEFAULT_BITS = (*range(13), 14, 26)
VERSION = "0.9.0"


class Model(BaseModel):
    """A model that can be had, and for how much a pixel (live video) or a second (BYOC)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    pipeline: Literal["live-video-to-video", "byoc"]
    name: str = Field(min_length=1)
    price_per_unit: int = Field(ge=0, lt=INT64_END)
    pixels_per_unit: int = Field(default=1, gt=0, lt=INT64_END)
    capacity: int = Field(default=10, ge=0)
    warm: bool = True
    runner_version: str = ""

    @property
    def key(self) -> str:
        return f"{self.pipeline}/{self.name}"

    @property
    def capability(self) -> int:
        return CAPABILITY_BY_PIPELINE[self.pipeline]

    @property
    def price(self) -> Price:
        return Price(self.price_per_unit, self.pixels_per_unit)


@dataclass(slots=True, kw_only=True)
class Offer:
    """`base_price` is asked of those who name no model that has a price of its own."""

    base_price: Price
    models: dict[str, Model] = field(default_factory=dict)  # by "pipeline/name"
    version: str = VERSION
    mandatories: list[int] = field(default_factory=list)

    def model(self, pipeline: str, name: str) -> Model:
        found = self.models.get(f"{pipeline}/{name}")
        if found is None:
            raise RefusedError(503, "insufficient capacity")
        return found

    def price(self, wanted: pb.Capabilities | None) -> Price:
        """Add up the prices of all models asked for; without any it is the base price."""
        if wanted is None:
            return self.base_price
        total = sum((model.price.fraction for model in self._wanted(wanted)), Fraction(0))
        return Price.of(total) if total else self.base_price

    def prices(self) -> list[pb.PriceInfo]:
        return [
            model.price.message(capability=model.capability, constraint=model.name)
            for model in self.models.values()
        ]

    def capabilities(self, in_use: Callable[[str], int]) -> pb.Capabilities:
        """Say what we can do; `in_use` tells how many sessions a model's key has."""
        message = self.requirements()
        for model in self.models.values():
            constraint = message.constraints.per_capability[model.capability].models[model.name]
            constraint.capacity_in_use = in_use(model.key)
            constraint.capacity = max(0, model.capacity - constraint.capacity_in_use)
        return message

    def requirements(self) -> pb.Capabilities:
        """Say what a job is compared with: all of it but who uses how much."""
        bits = sorted({*DEFAULT_BITS, *(model.capability for model in self.models.values())})
        message = pb.Capabilities(
            bitstring=bitstring(bits),
            mandatories=bitstring(self.mandatories),
            capacities=dict.fromkeys(bits, 1),
            version=self.version,
        )
        for model in self.models.values():
            constraint = message.constraints.per_capability[model.capability].models[model.name]
            constraint.warm, constraint.runner_version = model.warm, model.runner_version
        return message

    def hardware(self) -> list[pb.HardwareInformation]:
        gpu = pb.GPUComputeInfo(id="GPU-0", name="Stand-in", major=9, memory_free=2**34, memory_total=2**34)
        return [
            pb.HardwareInformation(pipeline=model.pipeline, model_id=model.name, gpu_info={"0": gpu})
            for model in self.models.values()
        ]

    def _wanted(self, wanted: pb.Capabilities) -> Iterable[Model]:
        named = {(model.capability, model.name): model for model in self.models.values()}
        for capability in wanted.capacities:
            if capability in wanted.constraints.per_capability:
                for name in wanted.constraints.per_capability[capability].models:
                    if (capability, name) in named:
                        yield named[capability, name]
