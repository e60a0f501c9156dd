"""What discovery says: the orchestrators as it saw them last."""

from typing import Annotated, Literal

from pydantic import Field

from contracts.message import Message

ORCHESTRATORS = "orchestrators"  # the KV bucket `/discover-orchestrators` is answered from
SNAPSHOT = "snapshot"  # its one entry
JSON_NUMBER = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$"


class RunnerGpu(Message):
    id: str = ""
    name: str = ""
    vram_mb: int = 0


class RunnerPrice(Message):
    """`price` is the JSON number an orchestrator wrote, digit by digit: a float would round it."""

    price: Annotated[str, Field(pattern=JSON_NUMBER)]
    currency: str
    unit: str


class Runner(Message):
    """Where an app can be run; empty text is none told."""

    url: str
    gpu: RunnerGpu | None = None
    app: str
    version: str = ""
    metadata: str = ""
    mode: str = ""
    capacity: int = 0
    capacity_used: int = 0
    capacity_available: int = 0
    price_info: RunnerPrice


class Orchestrator(Message):
    """One address with what may be bought there: all prices are within the operator's ceilings."""

    address: str
    capabilities: list[str]  # `pipeline/model`, and the apps of the runners; sorted
    runners: list[Runner]


class OrchestratorsObserved(Message):
    """Entry `snapshot` of the `orchestrators` bucket: everything found in one sweep, in wire order."""

    kind: Literal["orchestrators_observed"] = "orchestrators_observed"
    observed_at_ms: int
    orchestrators: list[Orchestrator]
