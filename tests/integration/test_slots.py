"""Slots: one run each, found again with their state."""

import subprocess
import sys
from pathlib import Path

from tests import infra
from tilt import slot
from tilt.servers.ports import Ports, is_free


class TestSlots:
    def test_a_second_run_takes_the_next_slot_and_a_restart_the_first(self, tmp_path: Path) -> None:
        first, second = slot.take(tmp_path), slot.take(tmp_path)
        secret, port = first.secret("signer"), first.port("nats")
        first.release()

        again = slot.take(tmp_path)

        assert (first.number, second.number, again.number) == (1, 2, 1)
        assert (again.secret("signer"), again.port("nats")) == (secret, port)
        assert second.secret("signer") != secret
        assert second.port("nats") != port
        assert (again.directory / "secrets.json").stat().st_mode & 0o777 == 0o600
        again.release()
        second.release()

    def test_the_slot_of_a_killed_run_is_free(self, tmp_path: Path) -> None:
        code = (
            "import pathlib, sys, time; from tilt import slot; "
            "held = slot.take(pathlib.Path(sys.argv[1])); print(held.number, flush=True); time.sleep(600)"
        )
        command = [sys.executable, "-c", code, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout
            assert other.stdout.readline() == "1\n"
            second = slot.take(tmp_path)
            other.kill()

        first = slot.take(tmp_path)

        assert (first.number, second.number) == (1, 2)
        first.release()
        second.release()

    def test_cleaning_spares_the_slots_in_use(self, tmp_path: Path) -> None:
        first, second = slot.take(tmp_path), slot.take(tmp_path)
        (tmp_path / "uv").mkdir()
        first.release()

        assert list(slot.remove_free_slots(tmp_path)) == [first.directory]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "uv"]
        second.release()


class TestPorts:
    def test_a_port_is_remembered(self, tmp_path: Path) -> None:
        first = Ports(tmp_path / "ports.json", range(28_950, 28_960))
        chosen = first.port("nats"), first.port("postgres")

        again = Ports(tmp_path / "ports.json", range(28_950, 28_960))

        assert (again.port("nats"), again.port("postgres")) == chosen
        assert chosen[0] != chosen[1]

    def test_a_port_that_listens_is_not_free(self, nats: infra.Nats) -> None:
        assert not is_free(nats.port)
