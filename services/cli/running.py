"""Runs what a command has to do, and tells how it ended: a status, and one line of what went wrong."""

import asyncio
import sys
from collections.abc import Awaitable, Callable

import typer
from pydantic import ValidationError

from contracts.message import Fault, Refusal
from services.cli.house import House, entered
from services.cli.settings import Settings
from shared.bus import CommandRefusedError, ServiceUnavailableError

REFUSED, COULD_NOT = 1, 2

type Work = Callable[[House], Awaitable[None]]


class RefusedHereError(Exception):
    """What was asked for cannot be meant; nobody was asked to do it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.refusal = Refusal(code=code, message=message)


class MissingSettingError(Exception):
    """The environment does not say what this needs."""


def run(work: Work, *, json: bool) -> None:
    """End the process with 1 if it was refused, with 2 if it could not be done; say why on stderr."""
    try:
        asyncio.run(_enter(work))
    except (CommandRefusedError, RefusedHereError) as refused:
        told = refused.refusal
        _say(told, f"refused: {told.message} ({told.code})", json=json)
        raise typer.Exit(REFUSED) from None
    except (ServiceUnavailableError, MissingSettingError) as problem:
        told_fault = Fault(message=str(problem))
        _say(told_fault, f"could not: {told_fault.message}", json=json)
        raise typer.Exit(COULD_NOT) from None


async def _enter(work: Work) -> None:
    async with entered(_settings()) as house:
        await work(house)


def _settings() -> Settings:
    try:
        return Settings()
    except ValidationError as problem:
        raise MissingSettingError(first_problem(problem, "CLEARINGHOUSE_", str.upper)) from None


def first_problem(problem: ValidationError, prefix: str = "", named: Callable[[str], str] = str) -> str:
    """Where it is and what is wrong with it, in one line and without what was given."""
    found = problem.errors(include_input=False, include_url=False, include_context=False)[0]
    where = ".".join(named(str(part)) for part in found["loc"])
    return prefix + (f"{where}: {found['msg']}" if where else found["msg"])


def _say(message: Refusal | Fault, line: str, *, json: bool) -> None:
    sys.stderr.write((message.model_dump_json() if json else " ".join(line.split())) + "\n")
