"""An option for each limit there is, read off the contract: a new limit needs no line here."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from contracts.limits import Alarms, Limits
from services.cli.running import first_problem

LIMITS = tuple(Limits.model_fields)
_SCHEMA = Limits.model_json_schema()
_SHAPES = _SCHEMA["properties"]


def with_limits(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options; what was typed comes to it as `typed`, Limits of only that."""
    own = [each for each in inspect.signature(command).parameters.values() if each.name != "typed"]
    parameters = [*own, *(_parameter(name) for name in LIMITS)]

    def called(**values: Any) -> None:
        typed = {name: values.pop(name) for name in LIMITS}
        command(**values, typed=read({name: value for name, value in typed.items() if value is not None}))

    called.__doc__ = command.__doc__
    called.__name__ = command.__name__
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # what typer reads
    called.__annotations__ = {each.name: each.annotation for each in parameters}
    return called


def read(typed: Mapping[str, Any]) -> Limits:
    """End the command as a usage error if a value is no limit."""
    values = {
        name: dict(map(PARTS[name], value)) if name in PARTS else value for name, value in typed.items()
    }
    try:
        return Limits.model_validate(values)
    except ValidationError as problem:
        raise typer.BadParameter(first_problem(problem, "--", _option)) from None


def merged(before: Limits, typed: Limits) -> Limits:
    """What was set, with what was typed in its place."""
    named = {name: getattr(typed, name) for name in LIMITS if getattr(typed, name) is not None}
    return before.model_copy(update=named)


def without(before: Limits, names: list[str]) -> Limits:
    """What was set but these; a name that is no limit ends the command as a usage error."""
    wanted = [name.removeprefix("--").replace("-", "_") for name in names]
    for name in wanted:
        if name not in LIMITS:
            raise typer.BadParameter(f"{name} is no limit; one of {', '.join(LIMITS)}")
    return before.model_copy(update=dict.fromkeys(wanted))


def _parameter(name: str) -> inspect.Parameter:
    shapes = set(_types(_SHAPES[name]))
    described: str = _SHAPES[name].get("description", "")
    option, type_ = _option(name), str
    if "boolean" in shapes:
        annotation: Any = Annotated[bool | None, typer.Option(f"--{option}/--no-{option}", help=described)]
    elif shapes & {"array", "object"}:
        metavar = METAVARS.get(name, "ONE")
        repeated = f"{described} May be repeated.".strip()
        annotation = Annotated[list[str] | None, typer.Option(f"--{option}", metavar=metavar, help=repeated)]
    else:
        metavar = "TIME" if name.endswith("_at") else "NUMBER"
        annotation = Annotated[type_ | None, typer.Option(f"--{option}", metavar=metavar, help=described)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _types(shape: Mapping[str, Any]) -> Iterator[str]:
    """The JSON types that a field may have."""
    if "$ref" in shape:
        yield from _types(_SCHEMA["$defs"][shape["$ref"].rpartition("/")[2]])
    for each in shape.get("anyOf", []):
        yield from _types(each)
    if "type" in shape:
        yield shape["type"]


def _option(name: str) -> str:
    return name.replace("_", "-")


def _price(text: str) -> tuple[str, str]:
    name, found, price = text.partition("=")
    if not found:
        raise typer.BadParameter("--prices-max: such as live=1200 or live-video-to-video/a-model=1200/7")
    return name, price


def _alarm(text: str) -> tuple[str, object]:
    name, found, value = text.partition("=")
    if not found or name not in Alarms.model_fields:
        raise typer.BadParameter("--alarms: such as spend_times=8, network=off or holds=spend,network")
    if name == "holds":
        return name, [alarm for alarm in value.split(",") if alarm]
    return name, None if value == "none" else value


# Limits that have parts, each of which is typed by itself.
PARTS: Mapping[str, Callable[[str], tuple[str, object]]] = {"prices_max": _price, "alarms": _alarm}
METAVARS = {"prices_max": "NAME=PRICE", "alarms": "NAME=VALUE"}
