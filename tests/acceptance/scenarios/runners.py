"""The SDK's parts below `reserve_session`, for tests that choose when a runner is called and paid."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from livepeer_gateway.live_runner import LiveRunnerCallResult
from livepeer_gateway.selection import RunnerSelectionCursor, runner_selector
from livepeer_gateway.token import parse_token

from tests.acceptance.sdk import APP
from tests.acceptance.system import Account, System, until

DISCOVERY_SECONDS = 15  # until what the orchestrator offers is what clients are told


@dataclass
class ByHand:
    """A reserved session that is funded when the test says so, and as fast as it likes."""

    result: LiveRunnerCallResult

    @property
    def manifest_id(self) -> str:
        return str(self.result.session_id)

    async def pay(self) -> None:
        """Make the payment that the SDK makes every three seconds, and deliver it; raises as it does."""
        assert self.result.payment_session is not None
        await self.result.payment_session.send_payment()


@asynccontextmanager
async def reserved(system: System, account: Account) -> AsyncIterator[ByHand]:
    """Reserve a session with its first payment; leaving gives it back."""
    result = await (await find(account, APP)).next()
    yield ByHand(result)
    await system.send("POST", f"{result.data['control_url']}/stop")


async def find(account: Account, app: str, **headers: str) -> RunnerSelectionCursor:
    """Discover who runs an application; `next` calls one of them. The headers go to the signer."""
    token = parse_token(account.sdk_token)
    return await runner_selector(
        body={"prompt": "a lighthouse"},
        signer_url=token["signer"],
        signer_headers={**token["signer_headers"], **headers},
        discovery_url=token["discovery"],
        discovery_headers=token["discovery_headers"],
        app=app,
    )


async def until_offered(account: Account, app: str, price: int) -> None:
    """Wait until discovery tells that price, and no longer what an earlier test has left behind."""

    async def offered() -> bool:
        [runner] = (await find(account, app)).candidates
        return _price(runner.price_info) == price

    await until(f"{app} is offered at {price} wei", offered, seconds=DISCOVERY_SECONDS)


def _price(info: Any) -> int:
    return int(info.price)
