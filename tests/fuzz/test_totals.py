"""A run that was stopped goes on where it was."""

from pathlib import Path

from tests.fuzz.fuzz import run_in_memory
from tests.fuzz.totals import Chunk, Totals


def chunk(number: int, seed: str = "s") -> Chunk:
    return Chunk("memory", seed, number, 1000, 1.5, 1.0, {"400 no": 3, "accepted: signed": 2}, {}, [])


def test_a_later_run_knows_what_was_done_but_for_a_line_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "totals.jsonl"
    first = Totals.load(path, "s")
    first.add(chunk(0))
    first.add(chunk(1))
    with path.open("a") as file:
        file.write('{"kind": "memory", "seed": "s", "num')

    second = Totals.load(path, "s")
    known = [second.has("memory", number) for number in range(3)]
    second.add(chunk(2))

    assert known == [True, True, False]
    assert (second.inputs, second.outcomes["400 no"]) == (3000, 9)
    assert Totals.load(path, "s").chunks == second.chunks


def test_another_seed_is_another_run(tmp_path: Path) -> None:
    path = tmp_path / "totals.jsonl"
    Totals.load(path, "s").add(chunk(0))

    assert not Totals.load(path, "t").has("memory", 0)


def test_chunks_that_were_run_are_not_run_again(tmp_path: Path) -> None:
    totals = Totals.load(tmp_path / "totals.jsonl", "s")
    totals.add(chunk(0))

    run_in_memory(totals, 1000)

    assert totals.chunks == [chunk(0)]
