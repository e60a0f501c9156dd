"""Faults on demand: which requests shall meet which trouble, and how often."""

from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

type Route = Literal[
    "get_orchestrator",
    "ping",
    "end_transcoding_session",
    "discovery",
    "reserve",
    "call",
    "session_payment",
    "app",
    "stop",
    "refresh_payment",
    "payment",
    "live_video_to_video",
    "segment",
    "process_request",
]
type Kind = Literal["delay", "status", "reset", "truncate", "garbage"]

GARBAGE = b'\xff\xfe{"payment_params": [[['


class Fault(BaseModel):
    """One trouble; `processed` tells whether the request has its effect before the reply is broken.

    A truncated or garbled reply always comes after the effect.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    route: Route
    kind: Kind
    times: int | None = Field(default=None, ge=1)  # none: until cleared
    runner: str | None = None  # only requests to this runner
    paid: bool | None = None  # only requests with, or only without payment headers
    milliseconds: int = Field(default=0, ge=0, le=60_000)
    status: int = Field(default=500, ge=400, le=599)
    processed: bool = False

    def concerns(self, route: str, runner_id: str, *, paid: bool) -> bool:
        return (
            self.route == route
            and self.runner in {None, runner_id}
            and (self.paid is None or self.paid == paid)
        )


@dataclass(slots=True)
class Plan:
    fault: Fault
    hits: int = 0

    @property
    def is_over(self) -> bool:
        return self.fault.times is not None and self.hits >= self.fault.times

    def to_json(self) -> dict[str, Any]:
        return {**self.fault.model_dump(exclude_none=True), "hits": self.hits}


@dataclass(slots=True)
class Trouble:
    """What one request meets: a delay, and then perhaps a breakage."""

    delay_seconds: float = 0.0
    breakage: Fault | None = None


@dataclass(slots=True)
class Faults:
    plans: list[Plan] = field(default_factory=list)

    def plan(self, fault: Fault) -> None:
        self.plans.append(Plan(fault))

    def clear(self) -> None:
        self.plans.clear()

    def next(self, route: str, *, runner_id: str = "", paid: bool = False) -> Trouble:
        """Take what is planned for a request: every delay, and the first breakage."""
        trouble = Trouble()
        for plan in self.plans:
            if plan.is_over or not plan.fault.concerns(route, runner_id, paid=paid):
                continue
            if plan.fault.kind == "delay":
                trouble.delay_seconds += plan.fault.milliseconds / 1000
            elif trouble.breakage is None:
                trouble.breakage = plan.fault
            else:
                continue
            plan.hits += 1
        return trouble
