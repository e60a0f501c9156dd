"""The official SDK, unmodified, paying the local orchestrator through us."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from livepeer_gateway.live_runner import LiveRunnerSession
from livepeer_gateway.selection import reserve_session
from livepeer_gateway.token import parse_token

from tests.acceptance.system import Account, System, until

APP = "demo/echo"
PAYMENT_SECONDS = 3  # the SDK's pace


@dataclass
class Streaming:
    """A reserved session that the SDK keeps funded."""

    system: System
    account: Account
    session: LiveRunnerSession

    @property
    def manifest_id(self) -> str:
        return str(self.session.session_id)

    @property
    def funding(self) -> asyncio.Task[None]:
        """The SDK's loop: it ends when the SDK gives the session up."""
        task = self.session._payment_task  # noqa: SLF001 - the SDK tells it nowhere else
        assert isinstance(task, asyncio.Task)
        return task

    async def accepted(self) -> set[tuple[str, int]]:
        return await self.system.accepted(self.manifest_id)

    async def until_paid_again(self, *, seconds: float) -> set[tuple[str, int]]:
        """Wait until the orchestrator took more tickets than it has now; return all of them."""
        before = await self.accepted()

        async def more() -> set[tuple[str, int]]:
            assert not self.funding.done(), "the SDK gave up"
            now = await self.accepted()
            return now if now > before else set()

        return await until("the orchestrator was paid again", more, seconds=seconds)


@asynccontextmanager
async def streaming(system: System, account: Account, *, app: str = APP) -> AsyncIterator[Streaming]:
    """Reserve a session with its first payment; leaving gives it back."""
    token = parse_token(account.sdk_token)
    session = await reserve_session(
        signer_url=token["signer"],
        signer_headers=token["signer_headers"],
        discovery_url=token["discovery"],
        discovery_headers=token["discovery_headers"],
        app=app,
    )
    async with session:
        yield Streaming(system, account, session)
