"""What is killed, and where: every step and every process, in an order the seed decides."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from tests.faults.kills.steps import STEPS
from tilt.world import World

SERVERS = ("postgres", "nats")
SINGLE = ("discovery", "provisioner")
TIMES = 6  # a step is not always the first of its kind that comes
LATEST_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class AtStep:
    """Whichever replica comes there first; both, if they come at once."""

    process: str
    step: str
    times: int

    def __str__(self) -> str:
        return f"{self.process}: {self.step}"


@dataclass(frozen=True, slots=True)
class AtRandom:
    """All of these at the same moment."""

    processes: tuple[str, ...]
    after_seconds: float

    def __str__(self) -> str:
        return f"{' and '.join(self.processes)}: at random"


type Kill = AtStep | AtRandom


def deck(world: World, random: Random) -> Iterator[Kill]:
    """All kills, shuffled; again and again, shuffled anew."""
    while True:
        kills = [*_at_steps(random), *_at_random(world, random)]
        random.shuffle(kills)
        yield from kills


def _at_steps(random: Random) -> Iterator[Kill]:
    for process, steps in STEPS.items():
        for step in steps:
            yield AtStep(process, step.name, 1 if step.rare else random.randint(1, TIMES))


def _at_random(world: World, random: Random) -> Iterator[Kill]:
    replicated = [world.replicas_of(process) for process in STEPS]
    groups = [*replicated, *([name] for names in replicated for name in names)]
    groups += [[name] for name in (*SINGLE, *SERVERS, *SERVERS)]
    groups.append([*SERVERS])
    for group in groups:
        yield AtRandom(tuple(group), random.uniform(0, LATEST_SECONDS))
