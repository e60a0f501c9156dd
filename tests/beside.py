"""What goes on beside a test, and how a test waits for it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from threading import Barrier
from typing import Any

DEADLINE_SECONDS = 120  # machines are shared: only a failure waits for it
POLL_SECONDS = 0.01


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():
            await asyncio.sleep(POLL_SECONDS)


@asynccontextmanager
async def running(*parts: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run these beside the block; whatever they are doing, they end with it."""
    tasks = [asyncio.create_task(part) for part in parts]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def together[R](*calls: Callable[[], R]) -> list[R]:
    """Make all calls at the same moment, in threads."""
    barrier = Barrier(len(calls))

    def run(call: Callable[[], R]) -> R:
        barrier.wait(DEADLINE_SECONDS)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [running.result(DEADLINE_SECONDS) for running in [pool.submit(run, call) for call in calls]]
