"""A slice of the kill matrix: named steps of each service, in the world of two replicas."""

from importlib import import_module
from random import Random

import pytest

from tests.acceptance.system import System
from tests.faults.kills.deck import AtStep
from tests.faults.kills.part import Matrix
from tests.faults.kills.steps import STEPS, Step
from tests.faults.kills.world import SteppedWorld

pytestmark = pytest.mark.timeout(400)  # deadlines are for slow machines

KILLS = (
    AtStep("signer", "after commit", 2),
    AtStep("quota", "after grant, before its reply", 1),
    AtStep("quota", "between a stop's commit and its entry", 1),
    AtStep("metering", "between effect and ack", 1),
    AtStep("signer-relay", "relay: between publish and mark", 1),
    AtStep("edge", "between publish and answer", 2),
)


def _name(step: Step) -> str:
    return f"{step.target} {step.name}".replace(" ", "-")


@pytest.mark.parametrize("step", [step for steps in STEPS.values() for step in steps], ids=_name)
def test_the_function_of_a_step_exists(step: Step) -> None:
    module, _, path = step.target.partition(":")
    holder = import_module(module)
    for name in path.split("."):
        holder = getattr(holder, name)

    assert callable(holder)


@pytest.mark.anyio
async def test_processes_killed_at_named_steps_lose_and_double_nothing(replicated: System) -> None:
    world = replicated.world
    assert isinstance(world, SteppedWorld)

    matrix = Matrix(world, replicated, Random("slice"))
    victims_max = 2 * len(KILLS)  # both replicas may come to a step at once
    findings = await matrix.run(iter(KILLS), victims_max, steady=6, refusable=3)

    assert findings.violations == []
    killed = {name for name, count in findings.counted.items() if name.startswith("killed ") and count}
    assert killed == {f"killed {kill}" for kill in KILLS}
