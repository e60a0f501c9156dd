"""What a slot must not be: half of a state."""

from pathlib import Path

import pytest

from tilt.chain.world import World as Deployment
from tilt.chain.world import save
from tilt.world import is_torn


@pytest.fixture
def deployment() -> Deployment:
    return Deployment(42161, 1, *[f"0x{number:040x}" for number in range(7)])


def test_an_empty_slot_is_whole(tmp_path: Path) -> None:
    assert not is_torn(tmp_path)


def test_databases_without_their_chain_are_torn(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("18")

    assert is_torn(tmp_path)


def test_a_chain_without_its_databases_is_torn(tmp_path: Path, deployment: Deployment) -> None:
    (tmp_path / "chain").mkdir()
    save(deployment, tmp_path / "chain")

    assert is_torn(tmp_path)


def test_both_together_are_whole(tmp_path: Path, deployment: Deployment) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("18")
    (tmp_path / "chain").mkdir()
    save(deployment, tmp_path / "chain")

    assert not is_torn(tmp_path)
