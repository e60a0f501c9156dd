"""Two who change limits at once, and words that make no command."""

from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from contracts.message import Refusal
from services.cli.app import app
from services.cli.changing import ATTEMPTS, until_unchanged
from shared.bus import CommandRefusedError

pytestmark = pytest.mark.anyio


def refused(code: str) -> CommandRefusedError:
    return CommandRefusedError(Refusal(code=code, message="no"))


class Change:
    """Ends as it is told, one attempt after the other; then it is done."""

    def __init__(self, *refusals: str) -> None:
        self._refusals: Iterator[str] = iter(refusals)
        self.attempts = 0

    async def __call__(self) -> str:
        self.attempts += 1
        for code in self._refusals:
            raise refused(code)
        return "done"


async def test_who_was_slower_reads_again_and_changes_that() -> None:
    change = Change("limits_changed", "limits_changed")

    assert await until_unchanged(change) == "done"
    assert change.attempts == 3


async def test_who_is_always_slower_is_told() -> None:
    change = Change(*["limits_changed"] * 9)

    with pytest.raises(CommandRefusedError, match="no"):
        await until_unchanged(change)
    assert change.attempts == ATTEMPTS


async def test_what_else_is_refused_is_told_at_once() -> None:
    change = Change("bad_command")

    with pytest.raises(CommandRefusedError):
        await until_unchanged(change)
    assert change.attempts == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["limits", "set", "acme", "--user", "ann", "--credit-limit-micro-usd", "5"], "is for accounts only"),
        (["limits", "set", "acme", "--key", "k", "--credit-limit-micro-usd", "5"], "is for accounts only"),
        (["plan", "set", "pro", "--of", "users", "--credit-limit-micro-usd", "5"], "is for accounts only"),
        (["tokens", "end", "acme", "a-token"], "token_id"),
    ],
)
def test_what_means_nothing_is_told_before_anybody_is_asked(words: list[str], told: str) -> None:
    ended = CliRunner().invoke(app, words)

    assert ended.exit_code == 2
    assert told in " ".join(ended.stderr.split())
