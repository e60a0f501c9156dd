"""Blocks that outrun ticket params, seen by whoever judges them."""

from tests.acceptance.system import System, until
from tests.acceptance.wire import Payer, request

PARAMS_LIFE_BLOCKS = 41  # after so many blocks an orchestrator takes no ticket under a quote
SEEN_SECONDS = 15


async def expire_params(system: System) -> None:
    """Let params expire that were quoted so far; orchestrator and signer know of it on return."""
    payer = Payer(system, await system.open_account())
    quoted_before = request(await payer.challenge())
    wanted = await _head(system) + PARAMS_LIFE_BLOCKS
    await system.mine(PARAMS_LIFE_BLOCKS)

    async def seen() -> bool:
        return await _head(system) >= wanted and (await payer.ask(quoted_before)).status == 480

    await until("orchestrator and signer saw the blocks", seen, seconds=SEEN_SECONDS)


async def _head(system: System) -> int:
    return int((await system.orchestrator())["head"]["l1_block"])
