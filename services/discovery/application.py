"""Looks for orchestrators: asks all of them again and again, and says what it found."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import structlog

from contracts.discovery import SNAPSHOT
from services.discovery import snapshot
from services.discovery.domain import Answer, Found, merge
from services.discovery.outgoing import Origin
from shared.bus import CommandRefusedError, ServiceUnavailableError
from shared.clock import Clock
from shared.telemetry import (
    discovery_answers_total,
    discovery_listed,
    discovery_runners,
    discovery_runners_refused_total,
    discovery_sweep_seconds,
)

log = structlog.get_logger()

AT_ONCE_MAX = 200  # three connections each
RETRY_SECONDS = 2.0
NAMED_MAX = 10  # addresses in one line of the log


class OrchestratorFailedError(Exception):
    """It did not answer, or nothing usable: it is left out of this sweep, with its runners."""


@dataclass(frozen=True, slots=True)
class Credential:
    """Our payer's address and its signature over it, as orchestrators ask for them."""

    address: bytes
    signature: bytes


# Asks the signer. Raises ServiceUnavailableError or CommandRefusedError.
type AskSigner = Callable[[], Awaitable[Credential]]


class Asking(Protocol):
    async def ask(self, origin: Origin, credential: Credential) -> Answer:
        """Raise OrchestratorFailedError where the orchestrator has to be left out."""
        ...


class Bucket(Protocol):
    async def put(self, key: str, value: bytes) -> None: ...


class Discovering:
    def __init__(
        self,
        origins: Sequence[Origin],
        orchestrators: Asking,
        ask_signer: AskSigner,
        bucket: Bucket,
        clock: Clock,
        *,
        runner_ceiling: Fraction | None,
        poll_seconds: float,
        sweep_seconds: float,
    ) -> None:
        self._origins = origins
        self._orchestrators = orchestrators
        self._ask_signer = ask_signer
        self._bucket = bucket
        self._clock = clock
        self._runner_ceiling = runner_ceiling
        self._poll_seconds = poll_seconds
        self._sweep_seconds = sweep_seconds
        self._credential: Credential | None = None
        self._silent: set[Origin] = set()  # who was asked in the last sweep and did not answer
        self.observed = asyncio.Event()

    async def run(self) -> None:
        """Sweep for ever; soon again after a sweep in which nobody answered."""
        while True:
            answered = await self.sweep()
            await asyncio.sleep(self._poll_seconds if answered else min(RETRY_SECONDS, self._poll_seconds))

    async def sweep(self) -> bool:
        """Ask everybody once and tell the bucket what was found; false if nobody answered.

        Then the bucket keeps what was seen before: such a sweep says more about us than about them.
        """
        credential = await self._current_credential()
        if credential is None:
            return False
        with discovery_sweep_seconds.time():
            answers = await self._ask_all(credential)
        if not answers:
            log.warning("sweep_found_nobody", asked=len(self._origins))
            return False
        found = merge(answers, self._runner_ceiling)
        entry, left_out = snapshot.encode(found.orchestrators, self._clock.now())
        if left_out:
            log.warning("snapshot_too_large", left_out=left_out, bytes_max=snapshot.BYTES_MAX)
        await self._bucket.put(SNAPSHOT, entry)
        self.observed.set()
        self._report(found, answered=len(answers))
        return True

    async def _current_credential(self) -> Credential | None:
        """The payer may change, so the signer is asked each time; while it is away the last will do."""
        try:
            self._credential = await self._ask_signer()
        except (ServiceUnavailableError, CommandRefusedError) as problem:
            log.warning("no_credential", problem=str(problem), last_one_is_used=bool(self._credential))
        return self._credential

    async def _ask_all(self, credential: Credential) -> list[Answer]:
        """The answers that came in time, in the order of the list."""
        turns = asyncio.Semaphore(AT_ONCE_MAX)
        had_a_turn: set[Origin] = set()

        async def ask(origin: Origin) -> Answer:
            async with turns:
                had_a_turn.add(origin)
                return await self._orchestrators.ask(origin, credential)

        # Turns are given in this order: who was silent the last time holds up nobody who was not.
        in_turn = sorted(self._origins, key=lambda origin: origin in self._silent)
        asking = {origin: asyncio.create_task(ask(origin)) for origin in in_turn}
        try:
            await asyncio.wait(asking.values(), timeout=self._sweep_seconds)
        finally:
            for task in asking.values():
                task.cancel()
            await asyncio.gather(*asking.values(), return_exceptions=True)
        answers = {origin: _answer(origin, task) for origin, task in asking.items()}
        self._silent = {origin for origin in had_a_turn if answers[origin] is None}
        return [answer for origin in self._origins if (answer := answers[origin]) is not None]

    def _report(self, found: Found, *, answered: int) -> None:
        runners = sum(len(orchestrator.runners) for orchestrator in found.orchestrators)
        discovery_listed.set(len(found.orchestrators))
        discovery_runners.set(runners)
        refusals: Counter[str] = Counter()
        for (_, refusal), count in found.refused.items():
            refusals[refusal] += count
            discovery_runners_refused_total.labels(refusal).inc(count)
        if refusals:
            addresses = list(dict.fromkeys(address for address, _ in found.refused))
            log.info("runners_refused", addresses=addresses[:NAMED_MAX], **refusals)
        log.info(
            "orchestrators_observed",
            asked=len(self._origins),
            answered=answered,
            listed=len(found.orchestrators),
            runners=runners,
        )


def _answer(origin: Origin, task: asyncio.Task[Answer]) -> Answer | None:
    """What came of asking; whatever one orchestrator brings about, the others count."""
    if task.cancelled():
        problem: BaseException | None = TimeoutError("the sweep was over")
    else:
        problem = task.exception()
    if problem is None:
        discovery_answers_total.labels("answered").inc()
        return task.result()
    discovery_answers_total.labels("failed").inc()
    if isinstance(problem, (OrchestratorFailedError, TimeoutError)):
        log.warning("orchestrator_failed", orchestrator=origin.url, problem=str(problem))
    else:
        log.error("orchestrator_not_understood", orchestrator=origin.url, exc_info=problem)
    return None
