"""A small client of our own `/v1`, of the orchestrator's status, and of the local chain."""

import asyncio
import json
import urllib.request
from collections.abc import Callable
from typing import Any

from tilt.chain import node

TIMEOUT_SECONDS = 5.0
POLL_SECONDS = 0.2


class TimedOutError(Exception):
    """What was waited for did not come true in time."""


async def call(method: str, url: str, *, key: str = "", body: Any = None) -> Any:
    """Make one request and return its JSON, None without a body; raises urllib's HTTPError for a refusal."""
    return await asyncio.to_thread(_call, method, url, key, body)


def _call(method: str, url: str, key: str, body: Any) -> Any:
    data = json.dumps(body).encode() if body is not None else None
    headers = {"Content-Type": "application/json"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 (our own URLs)
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
        return json.loads(answer.read() or "null")


async def until(what: str, check: Callable[[], Any], *, seconds: float) -> Any:
    """Ask again and again until the answer is true, and return it."""
    try:
        async with asyncio.timeout(seconds):
            while not (found := await check()):
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise TimedOutError(f"waited {seconds:g} s in vain until {what}") from None
    return found


async def mine(rpc_url: str, blocks: int) -> None:
    await asyncio.to_thread(node.request, rpc_url, "anvil_mine", hex(blocks))
