"""The command line: where to listen, and what is on offer."""

import json
from pathlib import Path

import pytest

from tests.unit.orchestrator.world import KEY, settings
from tilt.orchestrator.settings import read_settings
from tilt.orchestrator.terms import Price

RUNNER = {"id": "pixels", "app": "a", "unit": "720p-pixel-seconds", "price_per_unit": 3}
MODEL = {"pipeline": "live-video-to-video", "name": "m", "price_per_unit": 3}


def arguments(directory: Path) -> list[str]:
    world = settings(directory).world
    fields = ("chain_id", "ticket_broker", "rounds_manager", "bonding_manager", "orchestrator")
    (directory / "world.json").write_text(json.dumps({name: getattr(world, name) for name in fields}))
    (directory / "key").write_text(f"0x{KEY.hex()}\n")
    given = {
        "--port": "8000",
        "--rpc": "http://127.0.0.1:1",
        "--world": directory / "world.json",
        "--key-file": directory / "key",
        "--state-dir": directory,
    }
    return [str(word) for pair in given.items() for word in pair]


def test_one_runner_that_sells_seconds_is_there_without_asking(tmp_path: Path) -> None:
    read = read_settings(arguments(tmp_path))

    [runner] = read.runners
    assert (runner.id, runner.app, runner.mode, runner.unit) == (
        "runner-1",
        "demo/echo",
        "persistent",
        "seconds",
    )
    assert (read.url, read.tls_url, read.models) == ("http://127.0.0.1:8000", None, [])
    assert read.base_price == Price(1800)


def test_a_host_a_tls_port_and_more_on_offer_can_be_told(tmp_path: Path) -> None:
    more = ["--host", "127.0.0.2", "--tls-port", "8935", "--runner", json.dumps(RUNNER)]
    more += ["--model", json.dumps(MODEL), "--base-price", "9", "--app", "own/app", "--capacity", "3"]

    read = read_settings([*arguments(tmp_path), *more])

    assert (read.url, read.tls_url) == ("http://127.0.0.2:8000", "https://127.0.0.2:8935")
    assert [runner.id for runner in read.runners] == ["runner-1", "pixels"]
    assert (read.runners[0].app, read.runners[0].capacity) == ("own/app", 3)
    assert [model.key for model in read.models] == ["live-video-to-video/m"]
    assert read.base_price == Price(9)


@pytest.mark.parametrize(
    "more",
    [
        ["--runner", "{"],
        ["--runner", json.dumps({**RUNNER, "unit": "hours"})],
        ["--runner", json.dumps({**RUNNER, "id": "a/b"})],
        ["--runner", json.dumps({**RUNNER, "id": "runner-1"})],
        ["--model", json.dumps({**MODEL, "pipeline": "other"})],
    ],
)
def test_what_makes_no_sense_ends_the_program(tmp_path: Path, more: list[str]) -> None:
    with pytest.raises(SystemExit):
        read_settings([*arguments(tmp_path), *more])
