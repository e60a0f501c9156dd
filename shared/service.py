"""How a service's process is put together: command broker, health and metrics, background tasks."""

import asyncio
import contextlib
import gc
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import structlog
import uvicorn
from faststream.asgi import AsgiFastStream, AsgiResponse, get
from faststream.nats import NatsBroker
from nats.aio.client import Client
from prometheus_client import generate_latest

log = structlog.get_logger()

READY_TIMEOUT_SECONDS = 1.0

type Task = Callable[[], Coroutine[Any, Any, None]]
type Check = Callable[[], Awaitable[bool]]


async def store_answers(connection_test: Callable[[], object]) -> bool:
    """A readiness check: does the store answer in time?"""
    try:
        async with asyncio.timeout(READY_TIMEOUT_SECONDS):
            await asyncio.to_thread(connection_test)
    except Exception as problem:  # noqa: BLE001 (whatever is wrong, we are not ready)
        log.warning("store_not_ready", problem=repr(problem))
        return False
    return True


def serve(
    *,
    brokers: Sequence[NatsBroker],
    client: Client,
    host: str,
    port: int,
    tasks: Sequence[Task] = (),
    checks: Sequence[Check] = (),
    on_stop: Callable[[], None] = lambda: None,
) -> uvicorn.Server:
    """The server of one process; `await server.serve()` runs it until SIGTERM."""
    # Tens of thousands of aggregates stay in memory: looking through all of them often stalls us.
    gc.freeze()
    gc.set_threshold(5_000, 20, 1_000)

    @get
    async def livez(_: Any) -> AsgiResponse:
        return AsgiResponse(b"alive\n", 200)

    @get
    async def readyz(_: Any) -> AsgiResponse:
        ready = client.is_connected and all([await check() for check in checks])
        return AsgiResponse(b"ready\n" if ready else b"not ready\n", 200 if ready else 503)

    @get
    async def metrics(_: Any) -> AsgiResponse:
        return AsgiResponse(generate_latest(), 200)

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        async with background(tasks):
            yield
        await client.close()
        on_stop()

    routes = [("/livez", livez), ("/readyz", readyz), ("/metrics", metrics)]
    app = AsgiFastStream(*brokers, asgi_routes=routes, lifespan=lifespan, logger=None)
    config = uvicorn.Config(
        app, host=host, port=port, log_config=None, access_log=False, timeout_graceful_shutdown=5
    )
    return uvicorn.Server(config)


@asynccontextmanager
async def background(tasks: Sequence[Task]) -> AsyncIterator[None]:
    """Run tasks beside the server. A task that fails ends the process: the supervisor restarts it."""
    running = [asyncio.create_task(_guarded(task)) for task in tasks]
    try:
        yield
    finally:
        for task in running:
            task.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.gather(*running, return_exceptions=True)


async def _guarded(task: Task) -> None:
    try:
        await task()
    except asyncio.CancelledError:
        raise
    except Exception:
        log.exception("task_failed")
        os._exit(70)  # nothing half alive: what was not committed was not released
