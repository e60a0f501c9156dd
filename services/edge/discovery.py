"""Orchestrators from a file, until a service observes them: a JSON array in the form of the wire."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import structlog
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

log = structlog.get_logger()

FILE_BYTES_MAX = 4 * 1024 * 1024


class OrchestratorsUnknownError(Exception):
    """No file is set, or it cannot be read now."""


class Orchestrator(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")

    address: str = Field(min_length=1)
    score: float = 1
    capabilities: list[str] = Field(default_factory=list)
    runners: list[dict[str, Any]] = Field(default_factory=list)

    def answer(self) -> dict[str, Any]:
        """As the wire has it: lists are left out when empty."""
        content = self.model_dump()
        return {key: value for key, value in content.items() if value != []}


ORCHESTRATORS = TypeAdapter(list[Orchestrator])


class OrchestratorFile:
    """Read again when it changes."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._version: tuple[int, int] | None = None
        self._orchestrators: list[Orchestrator] = []

    def find(self, capabilities: Iterable[str]) -> list[dict[str, Any]]:
        """Those with any of these capabilities, in their order, each once; all if none is given."""
        known = self._read()
        wanted = [capability for capability in capabilities if capability]
        if not wanted:
            matching = known
        else:
            matching = [one for want in wanted for one in known if want in one.capabilities]
        found = {one.address: one for one in reversed(matching)}  # the first of each address stays
        return [found[address].answer() for address in dict.fromkeys(one.address for one in matching)]

    def _read(self) -> list[Orchestrator]:
        if self._path is None:
            raise OrchestratorsUnknownError("no file is set")
        try:
            status = self._path.stat()
            version = (status.st_mtime_ns, status.st_size)
            if version != self._version:
                self._orchestrators = _parse(self._path, status.st_size)
                self._version = version
                log.info("orchestrators_read", orchestrators=len(self._orchestrators))
        except (OSError, ValueError) as problem:
            self._version = None
            log.warning("orchestrators_unreadable", problem=str(problem)[:500])
            raise OrchestratorsUnknownError(str(problem)) from problem
        return self._orchestrators


def _parse(path: Path, size: int) -> list[Orchestrator]:
    if size > FILE_BYTES_MAX:
        raise ValueError(f"{path} is larger than {FILE_BYTES_MAX} bytes")
    try:
        return ORCHESTRATORS.validate_json(path.read_bytes())
    except ValidationError as problem:
        raise ValueError(f"{path}: {problem}") from problem
