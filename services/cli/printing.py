"""What a command found, as a table for people or as JSON lines for machines."""

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime

from contracts.message import Message

MICRO = 1_000_000

type Columns = Mapping[str, object]


def print_rows(rows: Sequence[tuple[Message, Columns]], *, json: bool, nothing: str = "none") -> None:
    """Each message is a line of JSON; its columns are what a person is shown of it."""
    if json:
        for message, _ in rows:
            print_line(message.model_dump_json())
    elif not rows:
        print_line(nothing)
    else:
        print_table([columns for _, columns in rows])


def print_table(rows: Sequence[Columns]) -> None:
    shown = [[*rows[0]], *([said(value) for value in row.values()] for row in rows)]
    widths = [max(len(row[column]) for row in shown) for column in range(len(shown[0]))]
    for row in shown:
        print_line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def print_line(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def said(value: object) -> str:
    """A value for a person: nothing as a dash, moments in UTC to the second."""
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return value.strftime("%Y-%m-%dT%H:%M:%SZ")
        case list():
            return ",".join(map(str, value))
        case dict():
            return ",".join(f"{name}={each}" for name, each in value.items())
    return str(value)


def dollars(micro_usd: int | None) -> str:
    """Micro-dollars as dollars, exact."""
    if micro_usd is None:
        return "-"
    whole, rest = divmod(micro_usd, MICRO)
    digits = f"{rest:06}".rstrip("0").ljust(2, "0")
    return f"{whole:,}.{digits} USD"
