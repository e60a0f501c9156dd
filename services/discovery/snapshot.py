"""What a sweep found, as the entry of the bucket: bounded in size, whatever orchestrators say."""

from collections.abc import Sequence
from datetime import datetime

from contracts import discovery as contract
from services.discovery.domain import Gpu, Orchestrator, Price, Runner

BYTES_MAX = 1_000_000  # an entry of a bucket may have 1 MiB
FRAME_BYTES = 200  # around the list of orchestrators
RUNNERS_MAX = 4096  # of one address


def encode(orchestrators: Sequence[Orchestrator], observed_at: datetime) -> tuple[bytes, int]:
    """The entry, and how many runners and orchestrators are not in it for want of room.

    Where there is too much, each address keeps the same number of its first runners, so that no
    orchestrator can crowd out another; if even the addresses are too many, the last ones go.
    """
    entries = [_entry(orchestrator) for orchestrator in orchestrators]
    kept = _without_last(_with_fewer_runners(entries))
    message = contract.OrchestratorsObserved(
        observed_at_ms=int(observed_at.timestamp() * 1000), orchestrators=kept
    )
    return message.model_dump_json().encode(), _count(entries) - _count(kept)


def _with_fewer_runners(entries: list[contract.Orchestrator]) -> list[contract.Orchestrator]:
    bare = sum(_size(entry.model_copy(update={"runners": []})) for entry in entries)
    sizes = [[_size(runner) for runner in entry.runners] for entry in entries]
    room, most = BYTES_MAX - FRAME_BYTES - bare, RUNNERS_MAX
    while most > 0 and sum(sum(of_entry[:most]) for of_entry in sizes) > room:
        most //= 2
    return [entry.model_copy(update={"runners": entry.runners[:most]}) for entry in entries]


def _without_last(entries: list[contract.Orchestrator]) -> list[contract.Orchestrator]:
    room = BYTES_MAX - FRAME_BYTES
    for place, entry in enumerate(entries):
        room -= _size(entry)
        if room < 0:
            return entries[:place]
    return entries


def _size(part: contract.Orchestrator | contract.Runner) -> int:
    return len(part.model_dump_json().encode()) + 1  # and a comma


def _count(entries: list[contract.Orchestrator]) -> int:
    return len(entries) + sum(len(entry.runners) for entry in entries)


def _entry(orchestrator: Orchestrator) -> contract.Orchestrator:
    return contract.Orchestrator(
        address=orchestrator.address,
        capabilities=list(orchestrator.capabilities),
        runners=[_runner(runner, runner.price) for runner in orchestrator.runners if runner.price],
    )


def _runner(runner: Runner, price: Price) -> contract.Runner:
    return contract.Runner(
        url=runner.url,
        gpu=_gpu(runner.gpu) if runner.gpu else None,
        app=runner.app,
        version=runner.version,
        metadata=runner.metadata,
        mode=runner.mode,
        capacity=runner.capacity,
        capacity_used=runner.capacity_used,
        capacity_available=runner.capacity_available,
        price_info=contract.RunnerPrice(price=price.number, currency=price.currency, unit=price.unit),
    )


def _gpu(gpu: Gpu) -> contract.RunnerGpu:
    return contract.RunnerGpu(id=gpu.id, name=gpu.name, vram_mb=gpu.vram_mb)
