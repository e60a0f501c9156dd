"""A slice of the imports under kills; and the rules about them, each of which bites."""

import ast
import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import aiohttp
import pytest

from tests.acceptance.system import System
from tests.faults.imports.forgeries import FORGERIES, noticed
from tests.faults.imports.part import PUSHED, Kill, Trial
from tilt.supervisor import Supervisor
from tilt.world import World

pytestmark = pytest.mark.timeout(400)  # deadlines are for slow machines

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
OURS = ("services", "shared", "contracts", "tilt")
IMPORT_ALL = f"""
import sys
import tests.faults.imports.rules
print(*[name for name in sys.modules if name.split(".")[0] in {OURS!r}])
"""
COUNTED = (
    *("events recorded", "events repeated", "events refused", "tickets recorded", "tickets repeated"),
    *("tickets ignored", "tickets refused", "files imported by the command", "payments received"),
)
KILLS = (
    Kill(("postgres",), 0.1, 0.03),
    Kill(("nats",), 0.1, 0.01),
    Kill(("metering", "metering-2", "signer-relay", "signer-relay-2"), 0.1, 0.02),
)


@pytest.fixture(scope="module")
def trial(two_of_each: tuple[World, Supervisor]) -> Trial:
    """Imports that were killed in their middle, and what was found in the end."""

    async def run() -> Trial:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as http:
            made = Trial(System(*two_of_each, http), Random("slice"))
            await made.run(iter(KILLS), amount=100)
            return made

    return asyncio.run(run())


def test_imports_that_are_killed_in_their_middle_are_exact_in_the_end(trial: Trial) -> None:
    assert trial.violations == []
    assert trial.kills == sum(len(kill.victims) for kill in KILLS)
    assert min(trial.counted[what] for what in COUNTED) > 0


def test_what_two_clients_push_over_two_edges_at_once_is_answered_to_both_and_recorded_once(
    trial: Trial,
) -> None:
    pushed = [key for key, event in trial.sent.events.items() if event.source == PUSHED]
    answers = [trial.sent.answers[key] for key in pushed]

    assert min(answer.total() for answer in answers) >= 2
    assert max(answer["recorded"] for answer in answers) == 1


def test_each_forgery_in_rows_of_sound_imports_is_noticed(trial: Trial) -> None:
    assert trial.found is not None

    assert noticed(trial.sent, trial.found) == dict.fromkeys(FORGERIES, True)


def test_there_is_a_forgery_for_each_rule() -> None:
    assert set(_rules(HERE / "rules.py")) == FORGERIES.keys()


def test_the_rules_load_nothing_of_what_they_check() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True, check=True, cwd=ROOT
    )

    assert done.stdout.split() == []


def _rules(path: Path) -> Iterator[str]:
    """The first argument of each call that makes violations."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"Violation", "differences"}:
            first = node.args[0]
            if isinstance(first, ast.Constant):
                yield str(first.value)
