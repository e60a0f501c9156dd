"""What the orchestrator's unit tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.orchestrator.world import Stage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.orchestrator.store.close()
