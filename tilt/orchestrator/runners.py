"""Live runners: what each runs, how it is sold, and at what price (§9)."""

from collections.abc import Iterable, Iterator
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tilt.orchestrator.refusals import RefusedError
from tilt.orchestrator.terms import INT64_END, Price

PERSISTENT: Final = "persistent"
SINGLE_SHOT: Final = "single-shot"
FIXED = "fixed"
PIXELS_PER_SECOND = 720 * 1280 * 30
UNITS_PER_SECOND = {"seconds": 1, "720p-pixel-seconds": PIXELS_PER_SECOND, FIXED: 0}

type Mode = Literal["persistent", "single-shot"]
type Unit = Literal["seconds", "720p-pixel-seconds", "fixed"]


class Runner(BaseModel):
    """`ready` is false for one that nobody can find; `work_seconds` is how long a single shot takes."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    id: str = Field(pattern=r"^[A-Za-z0-9_-]+$")
    app: str = Field(min_length=1)
    mode: Mode = "persistent"
    unit: Unit = "seconds"
    price_per_unit: int = Field(gt=0, lt=INT64_END)
    pixels_per_unit: int = Field(default=1, gt=0, lt=INT64_END)
    capacity: int = Field(default=100, ge=0)
    ready: bool = True
    work_seconds: float = Field(default=0.0, ge=0)
    version: str = ""
    metadata: str = ""
    gpu: dict[str, str | int] | None = None

    @model_validator(mode="after")
    def _is_sold_by_the_one(self) -> Self:
        """Whoever pays a fixed price has to name it as a price of one unit."""
        if self.unit == FIXED and self.pixels_per_unit != 1:
            raise ValueError("a fixed price is for one unit")
        return self

    @property
    def key(self) -> str:
        return self.id

    @property
    def price(self) -> Price:
        return Price(self.price_per_unit, self.pixels_per_unit)

    @property
    def is_fixed(self) -> bool:
        return self.unit == FIXED

    @property
    def units_per_second(self) -> int:
        return UNITS_PER_SECOND[self.unit]

    @property
    def path(self) -> str:
        return f"/apps/{self.id}/{'session' if self.mode == PERSISTENT else 'app'}"


class Runners:
    """The runners by id, in the order they were told."""

    def __init__(self, runners: Iterable[Runner]) -> None:
        self._by_id: dict[str, Runner] = {}
        self.replace(runners)

    def __iter__(self) -> Iterator[Runner]:
        return iter(self._by_id.values())

    def replace(self, runners: Iterable[Runner]) -> None:
        self._by_id = {runner.id: runner for runner in runners}

    def known(self, runner_id: str) -> Runner:
        if runner_id not in self._by_id:
            raise RefusedError(404, "runner not found")
        return self._by_id[runner_id]

    def ready(self, runner_id: str) -> Runner:
        runner = self.known(runner_id)
        if not runner.ready:
            raise RefusedError(404, "runner not found")
        return runner

    def ready_as(self, mode: Mode, runner_id: str) -> Runner:
        runner = self.ready(runner_id)
        if runner.mode != mode:
            single_shot = mode == SINGLE_SHOT
            text = "runner is not single-shot" if single_shot else "only persistent runners have sessions"
            raise RefusedError(400, text)
        return runner
