"""How the `clearinghouse` command is called, and what stands behind it."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import batched
from typing import Any

from nats.aio.client import Client
from typer.testing import CliRunner

from contracts import limits as contract
from contracts.accounts import FindIdentity, Identity
from contracts.stops import LiftStops, StopPage, StopToSet
from services.cli.app import app
from shared.bus import ask
from tests import infra
from tests.integration.quota_stand_in import QuotaStandIn

HOOK_KEY = "7e" * 32
PEPPER = "a-pepper-of-these-tests-and-no-other-0123"
NOBODY = "0x" + "99" * 20


@dataclass
class House:
    """How the command is called, and what stands behind it."""

    nats: infra.Nats
    admin: Client
    settings: Mapping[str, str]
    stand_in: QuotaStandIn | None = None

    async def __call__(self, *words: str, status: int = 0, **settings: str) -> "Said":
        runner, told = CliRunner(), {**self.settings, **settings}
        result = await asyncio.to_thread(runner.invoke, app, list(words), env=told, catch_exceptions=False)
        assert result.exit_code == status, result.output
        return Said(result.stdout, result.stderr)

    async def process(self, *words: str) -> int | None:
        """Run it as a process of its own, beside others; return its status."""
        started = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.cli", *words,
            env={"PATH": os.environ["PATH"], **self.settings}, stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        return await asyncio.wait_for(started.wait(), 60)

    async def json(self, *words: str) -> list[dict[str, Any]]:
        return (await self(*words, "--json")).lines

    async def one(self, *words: str) -> dict[str, Any]:
        [line] = await self.json(*words)
        return line

    async def identity(self, key_id: str) -> Identity:
        return await ask(self.admin, FindIdentity(key_id=key_id), Identity)

    async def lift_all(self) -> None:
        listed = await self.json("stops", "list")
        for part in batched(listed, contract.LIST_MAX):
            stops = [StopToSet(what=stop["what"], value=stop["value"]) for stop in part]
            await ask(self.admin, LiftStops(stops=stops, actor="test", reason="test"), StopPage)

    @property
    def commands(self) -> list[Any]:
        return list(self.stand_in.commands) if self.stand_in else []


@dataclass(frozen=True)
class Said:
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]
