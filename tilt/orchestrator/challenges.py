"""402 challenges: an offer of a session that does not exist yet (§14), and answering with them again."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from contracts.livepeer import payments_pb2 as pb

REMEMBERED_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    info: pb.OrchestratorInfo
    payment_url: str

    @property
    def manifest_id(self) -> str:
        return self.info.auth_token.session_id

    def to_json(self) -> Mapping[str, str]:
        return {
            "payment_params": base64.b64encode(self.info.SerializeToString()).decode(),
            "orchestrator": self.info.transcoder,
            "manifest_id": self.manifest_id,
            "payment_url": self.payment_url,
        }


class Repeat(BaseModel):
    """Answer so many paid requests with a challenge: a fresh one, or the very one they paid for."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    times: int = Field(ge=1)
    runner: str | None = None  # none: any
    same: bool = False


@dataclass(slots=True)
class Repeats:
    """What is left of the wish for repeated challenges, and the challenges given so far."""

    wanted: Repeat | None = None
    done: int = 0
    _given: dict[str, Challenge] = field(default_factory=dict)

    def want(self, repeat: Repeat | None) -> None:
        self.wanted, self.done = repeat, 0

    def next(self, runner_id: str) -> Repeat | None:
        """Take one repeat, if a paid request to this runner shall be challenged again."""
        wanted = self.wanted
        if wanted is None or wanted.runner not in {None, runner_id} or self.done >= wanted.times:
            return None
        self.done += 1
        return wanted

    def remember(self, challenge: Challenge) -> None:
        self._given[challenge.manifest_id] = challenge
        while len(self._given) > REMEMBERED_MAX:
            del self._given[next(iter(self._given))]

    def given(self, manifest_id: str) -> Challenge | None:
        return self._given.get(manifest_id)

    def to_json(self) -> dict[str, Any] | None:
        return None if self.wanted is None else {**self.wanted.model_dump(), "done": self.done}
