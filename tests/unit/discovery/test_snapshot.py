"""The entry of the bucket: everything that was found, as long as it fits."""

from datetime import UTC, datetime

from contracts.discovery import OrchestratorsObserved
from services.discovery.domain import Gpu, Orchestrator, Price, Runner
from services.discovery.snapshot import BYTES_MAX, encode

NOW = datetime(2031, 5, 17, 8, tzinfo=UTC)
RUNNER = Runner(url="u", app="a", gpu=Gpu("0", "n", 1), price=Price("1.012e+16", "wei", "seconds"))


def orchestrator(name: str, runners: int, text: str = "") -> Orchestrator:
    return Orchestrator(
        f"https://{name}.example",
        ("a",),
        tuple(Runner(url=f"u{n}", app="a", metadata=text, price=RUNNER.price) for n in range(runners)),
    )


def test_says_all_of_what_was_found_and_when() -> None:
    entry, left_out = encode([Orchestrator("https://one.example", ("a", "b"), (RUNNER,))], NOW)

    observed = OrchestratorsObserved.model_validate_json(entry)

    assert left_out == 0
    assert observed.observed_at_ms == int(NOW.timestamp() * 1000)
    [one] = observed.orchestrators
    assert (one.address, one.capabilities) == ("https://one.example", ["a", "b"])
    [runner] = one.runners
    assert runner.price_info.price == "1.012e+16"
    assert runner.gpu is not None
    assert runner.gpu.vram_mb == 1


def test_one_with_very_many_runners_crowds_out_nobody() -> None:
    entry, left_out = encode(
        [orchestrator("greedy", 4_000, "\u0001" * 1024), orchestrator("modest", 20)], NOW
    )

    greedy, modest = OrchestratorsObserved.model_validate_json(entry).orchestrators

    assert len(entry) <= BYTES_MAX
    assert len(modest.runners) == 20
    assert 20 < len(greedy.runners) == 4_000 - left_out


def test_with_too_many_addresses_the_last_ones_go() -> None:
    entry, left_out = encode([orchestrator(f"{'x' * 100}{number}", 1) for number in range(20_000)], NOW)

    kept = OrchestratorsObserved.model_validate_json(entry).orchestrators

    assert len(entry) <= BYTES_MAX
    assert left_out == 40_000 - len(kept)
    assert kept[0].address.endswith("x0.example")
    assert len(kept) > 1_000
