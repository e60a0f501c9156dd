"""How long an emergency stop takes from the command over HTTP to the refusal of a paying client."""

import asyncio
from time import perf_counter

from tests.bench.load import Client
from tilt.api import call

DEADLINE_SECONDS = 20.0


async def stop_seconds(client: Client, *, stops_url: str, admin_key: str, account_id: str) -> float:
    """Stop the account of a client that pays without a pause, then let it pay again."""
    stop = {"what": "account", "value": account_id}
    refused = asyncio.create_task(_pay_until(client, 403))
    began = perf_counter()
    await call("POST", stops_url, key=admin_key, body={"stops": [stop], "reason": "bench"})
    try:
        return await refused - began
    finally:
        await call("POST", f"{stops_url}/lift", key=admin_key, body={"stops": [stop], "reason": "bench"})
        await _pay_until(client, 200)


async def _pay_until(client: Client, status: int) -> float:
    """When it was answered so."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while await client.pay() != status:
            pass
    return perf_counter()
