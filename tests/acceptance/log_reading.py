"""Reads the log over HTTP as a client does, and what it has to say from the signer's disk."""

import asyncio
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

import psycopg

from tests.acceptance.system import Account, Answer, System
from tests.acceptance.wire import Payer

SECONDS = 90
PAYMENTS = ["PaymentSigned"]


async def read(system: System, *, key: str = "", **query: Any) -> Answer:
    return await system.call("GET", f"/v1/events?{urlencode(query, doseq=True)}", key=key)


async def read_all(
    system: System, *, key: str = "", seconds: float = SECONDS, **query: Any
) -> list[dict[str, Any]]:
    """All events up to the end, page by page; asks again where it is told to."""
    found: list[dict[str, Any]] = []
    after = query.pop("after", "")
    async with asyncio.timeout(seconds):
        while True:
            answer = await read(system, key=key, after=after, **query)
            if answer.status == 503:
                assert answer.headers["Retry-After"] == "1"
                await asyncio.sleep(0.2)
                continue
            assert answer.status == 200, answer
            page = answer.json
            found += page["events"]
            after = page["next"]
            if page["at_end"]:
                return found


def ids(events: Sequence[dict[str, Any]]) -> list[str]:
    return [event["id"] for event in events]


async def payments_on_disk(system: System) -> list[int]:
    """The positions of all payments in the signer's log, read past all of its code."""

    def select() -> list[int]:
        with psycopg.connect(system.world.dsn()) as connection:
            rows = connection.execute(
                "SELECT notification_id FROM signer.signer_events"
                " WHERE topic = 'signer.payment_signed' ORDER BY 1"
            ).fetchall()
            return [row[0] for row in rows]

    return await asyncio.to_thread(select)


async def pay(system: System, times: int = 1, account: Account | None = None) -> Account:
    payer = Payer(system, account or await system.open_account())
    for _ in range(times):
        await payer.pay(await payer.challenge())
    return payer.account
