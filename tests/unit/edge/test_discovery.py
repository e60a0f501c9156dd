import json
import os
from pathlib import Path

import pytest

from services.edge.discovery import OrchestratorFile, OrchestratorsUnknownError

ONE = {"address": "https://one.example:8935", "score": 1, "capabilities": ["live/a", "live/b"]}
TWO = {"address": "https://two.example:8935", "score": 0.5, "capabilities": ["live/b"]}
BARE = {"address": "https://bare.example:8935", "runners": [{"url": "https://r", "price": 1.5}]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "orchestrators.json"
    path.write_text(json.dumps([ONE, TWO, BARE, ONE]))
    return path


def addresses(found: list[dict[str, object]]) -> list[object]:
    return [one["address"] for one in found]


def test_all_are_found_without_capabilities_each_once(path: Path) -> None:
    found = OrchestratorFile(path).find(["", ""])

    assert found == [ONE, TWO, {**BARE, "score": 1}]


def test_any_capability_matches_in_their_order(path: Path) -> None:
    orchestrators = OrchestratorFile(path)

    assert addresses(orchestrators.find(["live/b"])) == [ONE["address"], TWO["address"]]
    assert addresses(orchestrators.find(["live/a", "live/b"])) == [ONE["address"], TWO["address"]]
    assert orchestrators.find(["live"]) == []
    assert orchestrators.find(["LIVE/A"]) == []


def test_a_changed_file_is_read_again(path: Path) -> None:
    orchestrators = OrchestratorFile(path)
    orchestrators.find([])
    path.write_text(json.dumps([TWO]))
    os.utime(path, ns=(1, 1))

    assert addresses(orchestrators.find([])) == [TWO["address"]]


@pytest.mark.parametrize("content", ["{}", "not json", '[{"score": 1}]', '[{"address": ""}]', "\x80"])
def test_a_broken_file_answers_nothing_until_it_is_mended(path: Path, content: str) -> None:
    orchestrators = OrchestratorFile(path)
    path.write_bytes(content.encode("latin-1"))
    for _ in range(2):
        with pytest.raises(OrchestratorsUnknownError):
            orchestrators.find([])

    path.write_text("[]")
    assert orchestrators.find([]) == []


def test_without_a_file_nothing_is_known(tmp_path: Path) -> None:
    for path in (None, tmp_path / "missing.json"):
        with pytest.raises(OrchestratorsUnknownError):
            OrchestratorFile(path).find([])
