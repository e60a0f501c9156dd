"""How `clearinghouse tickets import` ends: with 1 if lines were refused, with 2 if it could not go on."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from services.cli.app import app
from tests import infra
from tests.integration.service_process import bus_user
from tests.told_tickets import event, lines

pytestmark = pytest.mark.anyio

NATS_USERS = (bus_user("cli"),)
IGNORED = event(type="create_new_payment")


async def ended(nats: infra.Nats, told: bytes, *words: str) -> tuple[int, str, str]:
    """The status, stdout and stderr of an import from stdin; nobody but the command is on the bus."""
    result = await asyncio.to_thread(
        CliRunner().invoke,
        app,
        ["tickets", "import", *(words or ("-",)), "--json"],
        input=told,
        env={"CLEARINGHOUSE_NATS_URL": nats.url("cli"), "CLEARINGHOUSE_TIMEOUT_SECONDS": "1"},
        catch_exceptions=False,
    )
    return result.exit_code, result.stdout, result.stderr


async def test_a_file_without_anything_wrong_ends_with_0(nats: infra.Nats) -> None:
    status, out, err = await ended(nats, lines(IGNORED, IGNORED))

    assert (status, counts(out), err) == (0, {"events": 2, "ignored": 2}, "")


async def test_refused_lines_end_it_with_1_after_all_others_are_done(nats: infra.Nats) -> None:
    status, out, err = await ended(nats, lines(IGNORED, "nonsense", IGNORED))

    assert (status, counts(out)) == (1, {"events": 3, "ignored": 2, "refused": 1})
    assert err.startswith("line 2: ")


async def test_a_file_that_is_none_of_text_ends_it_with_1(nats: infra.Nats) -> None:
    status, out, err = await ended(nats, b"\xff\xfe\n")

    assert (status, out, json.loads(err)["code"]) == (1, "", "bad_file")


async def test_services_that_are_silent_end_it_with_2(nats: infra.Nats) -> None:
    status, out, err = await ended(nats, lines(event(at=datetime(2026, 3, 1, tzinfo=UTC))))

    assert (status, out) == (2, "")
    assert "0 events are done, say it again to go on" in json.loads(err)["message"]


async def test_a_file_that_is_not_there_ends_it_with_2(nats: infra.Nats, tmp_path: Path) -> None:
    status, out, err = await ended(nats, b"", str(tmp_path / "nothing"))

    assert (status, out) == (2, "")
    assert "there is no file" in " ".join(err.split())


def counts(out: str) -> dict[str, Any]:
    """The totals that are not zero."""
    [line] = out.splitlines()
    return {name: number for name, number in json.loads(line).items() if number and name != "kind"}
