"""Metering's use case: a stretch of the signer's log becomes usage in one commit."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import ClassVar, Protocol

from eventsourcing.utils import EnvType

from services.metering.domain.usage import Span, Usage, UsageBatch
from shared.audit import Audit
from shared.store import Effect, EventSourced


class Projection(Protocol):
    """Tables that are kept equal to a fold of all usage."""

    def effects(self, span: Span, usage: Usage, now: datetime) -> Sequence[Effect]:
        """What adds usage that is recorded now to the tables, in the transaction that stores it."""
        ...


class Metering(EventSourced):
    name = "metering"
    env: ClassVar[dict[str, str]] = {
        "COMPRESSOR_TOPIC": "eventsourcing.compressor:ZlibCompressor",
        # For streams. A batch is written once and never loaded.
        "AGGREGATE_CACHE_MAXSIZE": "20000",
        "AGGREGATE_CACHE_FASTFORWARD": "n",  # the store's version check notices a stale one
        "DEEPCOPY_FROM_AGGREGATE_CACHE": "n",
    }

    def __init__(self, projection: Projection, env: EnvType | None = None) -> None:
        super().__init__(env)
        self._projection = projection
        self.audit = Audit(self.name, self.recorder)

    def record(self, span: Span, usage: Usage, now: datetime, done: Effect) -> None:
        """Store a batch, add it to the projections and say `done`: all of it or nothing."""
        batch = UsageBatch.record(span, usage, now)
        # `done` first: of two processes that got the same entries, the second waits, and gives up.
        self.save(batch, effects=[done, *self._projection.effects(span, usage, now)])
        self.forget(batch.id)

    def record_told(self, told: Iterable[tuple[Span, Usage]], now: datetime, noted: Effect) -> None:
        """Store batches that no log of ours tells, all in one commit with what is `noted` of them."""
        batches, effects = [], [noted]
        for span, usage in told:
            batches.append(UsageBatch.record(span, usage, now))
            effects += self._projection.effects(span, usage, now)
        try:
            self.save(*batches, effects=effects)
        finally:
            self.forget(*(batch.id for batch in batches))
