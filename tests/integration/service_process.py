"""A service as its own process, and what has to exist on the bus before it starts."""

import asyncio
import contextlib
import os
import secrets
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from nats.aio.client import Client
from nats.js.api import KeyValueConfig, StreamConfig
from nats.js.errors import NotFoundError

from contracts.accounts import IDENTITIES
from contracts.discovery import ORCHESTRATORS
from contracts.limits import RULES
from contracts.streams import permissions_of, stream_of
from tilt.servers import nats

READY_TIMEOUT_SECONDS = 30.0


def bus_user(service: str) -> nats.User:
    """The user of a service, with the permissions it has in production and no more."""
    allowed = permissions_of(service)
    return nats.User(service, secrets.token_hex(8), publish=allowed.publish, subscribe=allowed.subscribe)


async def provision_accounts(admin: Client) -> None:
    """Make what accounts needs, empty."""
    jetstream = admin.jetstream()
    for stream in (stream_of("accounts"), f"KV_{IDENTITIES}"):
        with contextlib.suppress(NotFoundError):
            await jetstream.delete_stream(stream)
    await jetstream.add_stream(StreamConfig(stream_of("accounts"), subjects=["evt.accounts.>"]))
    await jetstream.create_key_value(KeyValueConfig(IDENTITIES))


async def provision_discovery(admin: Client) -> None:
    """Make discovery's bucket, empty."""
    with contextlib.suppress(NotFoundError):
        await admin.jetstream().delete_key_value(ORCHESTRATORS)
    await admin.jetstream().create_key_value(KeyValueConfig(ORCHESTRATORS))


async def provision_rules(admin: Client) -> None:
    """Make quota's bucket, empty."""
    with contextlib.suppress(NotFoundError):
        await admin.jetstream().delete_key_value(RULES)
    await admin.jetstream().create_key_value(KeyValueConfig(RULES))


@asynccontextmanager
async def service(
    name: str,
    port: int,
    settings: Mapping[str, str],
    log: Path,
    *,
    ready_seconds: float = READY_TIMEOUT_SECONDS,
    program: Sequence[str] = (),
) -> AsyncIterator[int]:
    """Run `python -m services.<name>.app` until it is ready; give its pid, and end it afterwards.

    Or another program of it, such as one that stands for another release.
    """
    prefix = name.upper()
    environment = {f"{prefix}_{key}": value for key, value in {**settings, "HTTP_PORT": str(port)}.items()}
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *(program or ("-m", f"services.{name}.app")),
            env={"PATH": os.environ["PATH"], **environment},
            stdout=output,
            stderr=output,
        )
    try:
        async with asyncio.timeout(ready_seconds):
            await wait_until_ready(port, process, log)
        yield process.pid
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 15)


async def wait_until_ready(port: int, process: asyncio.subprocess.Process, log: Path) -> None:
    async with aiohttp.ClientSession() as session:
        while True:
            if process.returncode is not None:
                raise RuntimeError(f"the service ended:\n{log.read_text()[-4000:]}")  # noqa: ASYNC240
            try:
                async with session.get(f"http://127.0.0.1:{port}/readyz") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.05)
