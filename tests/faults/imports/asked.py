"""What the running system says in the end: `/v1/usage`, limits, `replay --verify`."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from fractions import Fraction
from typing import Any
from urllib.parse import urlencode

from tests.acceptance.system import System, until
from tests.faults.imports.expected import BUILT_IN, Place
from tests.faults.imports.sent import METERS

HOUR_SECONDS = 3600
ANSWER_SECONDS, REPLAY_SECONDS = 30, 300
PAGE = 500


async def told(system: System, account_id: str) -> dict[Place, Fraction]:
    """Each meter of an account by hour, user and groups."""
    meters = {BUILT_IN: ("type",), **{name: tuple(each["group_by"]) for name, each in METERS.items()}}
    found: dict[Place, Fraction] = {}
    for meter, groups in meters.items():
        async for row in _rows(system, account_id, meter, ("user", *groups)):
            user_id, *own = (row["group"][name] or "" for name in ("user", *groups))
            found[Place(account_id, meter, _hour(row), user_id, tuple(own))] = Fraction(row["value"])
    return found


async def told_cost(system: System, account_id: str) -> dict[tuple[str, str, int], int]:
    """What an account's payments cost, by user and hour."""
    rows = _rows(system, account_id, "payment_cost_wei", ("user",))
    return {(account_id, row["group"]["user"] or "", _hour(row)): int(row["value"]) async for row in rows}


async def spent(system: System, account_id: str) -> int:
    """As quota has it."""
    return int((await _get(system, f"/v1/accounts/{account_id}/limits"))["spent_wei"])


async def differing(system: System) -> list[str]:
    """The tables that a replay of metering's log would make otherwise."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.cli", "replay", "metering", "--verify", "--json"),
        env={"PATH": os.environ["PATH"], "METERING_POSTGRES_DSN": system.world.dsn("metering")},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await asyncio.wait_for(process.communicate(), REPLAY_SECONDS)
    found: Mapping[str, list[str]] = json.loads(out.splitlines()[-1])["differing"]
    return [f"{table}: {rows[:9]}" for table, rows in found.items()]


async def _rows(
    system: System, account_id: str, meter: str, groups: tuple[str, ...]
) -> AsyncIterator[dict[str, Any]]:
    asked: dict[str, Any] = {"account": account_id, "meter": meter, "window": "hour", "limit": PAGE}
    asked["group_by"] = groups
    while True:
        page = await _get(system, f"/v1/usage?{urlencode(asked, doseq=True)}")
        for row in page["usage"]:
            yield row
        if page["next"] is None:
            return
        asked["cursor"] = page["next"]


async def _get(system: System, path: str) -> dict[str, Any]:
    async def answered() -> dict[str, Any] | None:
        answer = await system.call("GET", path)
        assert answer.status in {200, 503}, answer
        found: dict[str, Any] = answer.json
        return found if answer.status == 200 else None

    found = await until(f"{path} is answered", answered, seconds=ANSWER_SECONDS)
    assert found is not None
    return found


def _hour(row: Mapping[str, Any]) -> int:
    return int(datetime.fromisoformat(row["window_start"]).timestamp()) // HOUR_SECONDS
