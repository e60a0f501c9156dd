"""What a slot must not be, half of a state; and who knows of its payers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tilt.chain.world import World as Deployment
from tilt.chain.world import save
from tilt.slot import Slot, take
from tilt.world import World, is_torn


@pytest.fixture
def slot(tmp_path: Path) -> Iterator[Slot]:
    taken = take(tmp_path)
    yield taken
    taken.release()


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


def test_every_payer_is_watched_and_the_signer_has_each_key(slot: Slot, deployment: Deployment) -> None:
    world = World(slot)
    world.chain_directory.mkdir()
    save(deployment, world.chain_directory)
    settings = {process.name: process.env or {} for process in world.services()}

    first, second = world.payers
    keys = settings["signer"]["SIGNER_DEVELOPMENT_KEY_PATH"].split(",")
    assert settings["deposit_watcher"]["DEPOSIT_WATCHER_PAYERS"] == f"{first},{second}"
    assert settings["accounts"]["ACCOUNTS_DEFAULT_PAYER"] == first
    assert keys == [str(path) for path in world.payer_key_paths]
    assert len({Path(key).read_text() for key in keys}) == 2
    assert World(slot).payers == [first, second]


def test_a_slot_of_one_payer_gets_a_second_and_keeps_the_first(slot: Slot) -> None:
    [payer, _] = World(slot).payers
    (slot.directory / "payer-2.key").unlink()

    first, second = World(slot).payers

    assert first == payer != second
