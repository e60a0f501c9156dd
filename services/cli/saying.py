"""Commands as they were typed: checked against the contract before anybody is asked."""

from typing import Any

import typer
from pydantic import BaseModel, TypeAdapter, ValidationError

from contracts.limits import Actor, Reason
from services.cli.running import first_problem

ACTOR: TypeAdapter[str] = TypeAdapter(Actor)
REASON: TypeAdapter[str] = TypeAdapter(Reason)


def made[Model: BaseModel](model: type[Model], **fields: Any) -> Model:
    """Make a message of what was typed; what is wrong with it ends the command as a usage error."""
    try:
        return model(**fields)
    except ValidationError as problem:
        raise typer.BadParameter(first_problem(problem)) from None


def author(actor: str, reason: str) -> dict[str, str]:
    """Who and why, for services that do not check the form of either in their contract."""
    for name, adapter, value in (("actor", ACTOR, actor), ("reason", REASON, reason)):
        try:
            adapter.validate_python(value)
        except ValidationError as problem:
            raise typer.BadParameter(f"--{name}: {first_problem(problem)}") from None
    return {"actor": actor, "reason": reason}
