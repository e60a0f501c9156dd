"""A signer whose clock steps back and forth: no client can make it do so, a bad time server may.

He hopes that time which runs backwards is billed as a credit, or as another ten or sixty seconds
ahead; or that the same minute is billed again each time it comes, for each second costs his victim
tickets. The signer here is a real one on the same PostgreSQL, in this process, as only so time is an
argument.
"""

import asyncio
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from services.provisioner import databases
from services.signer.application import Signing
from services.signer.deciding import AllowanceNeeded, Grant
from services.signer.intent import PaymentRequest
from services.signer.keys import LocalKey
from services.signer.payer import Payer
from services.signer.refusal import PaymentRefusal
from services.signer.rules import Limits
from services.signer.state import StateSeal
from shared.money import Wei
from shared.store import postgres_env
from tests.acceptance.system import System
from tests.faults.drains.bound import Bound, Drain, none_of
from tests.faults.drains.caps import TICKETS_MAX
from tests.faults.world import SCALE
from tests.quotes import QuoteMaker, body, chain_view
from tilt.world import World

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
RICH = Wei(10**15)
NOT_PAID = {"no_tickets", "too_many_tickets"}
DAY, YEAR = 86_400, 365 * 86_400
MINUTES = (60, -60) * 10 * SCALE
STEPS = (3, -3600, 1, -1, 3603, 0, -YEAR, YEAR, 2, -2, *MINUTES, -DAY, DAY, 600, -600, 600, YEAR)
PER_SECOND = {"live": 1, "lv2v": 1280 * 720 * 30}
PRELOAD_SECONDS = {"live": 10, "lv2v": 60}
PRICE = 10  # wei a second
EVS = (30, 1000)  # wei: a ticket pays for three seconds, or for a hundred
PAYMENTS = (
    "SELECT state FROM signer.signer_events WHERE topic = 'signer.payment_signed' ORDER BY notification_id"
)


@dataclass(frozen=True)
class Billed:
    """A payment: how far the clock had stepped since the one before, and what it billed."""

    at: datetime
    stepped: timedelta
    units: int
    tickets: int


async def run(system: System) -> Drain:
    payments = {
        (job, ev): await asyncio.to_thread(_step, system.world, job, ev) for job in PER_SECOND for ev in EVS
    }
    backward = [one for each in payments.values() for one in each[1:] if one.stepped <= timedelta(0)]
    forward = [one for each in payments.values() for one in each[1:] if one.stepped > timedelta(0)]
    return Drain(
        f"{len(STEPS)} steps of the clock in each of {len(payments)} sessions",
        [
            none_of("units billed at a step back", sum(abs(one.units) for one in backward)),
            Bound("tickets of a step back", max(one.tickets for one in backward), 1, least=1),
            Bound("tickets of a step forth", max(one.tickets for one in forward), TICKETS_MAX, least=1),
            *(_time_bound(job, ev, each) for (job, ev), each in payments.items()),
        ],
    )


def _time_bound(job: str, ev: int, payments: list[Billed]) -> Bound:
    """All that is billed is the time that the clock ever showed, and what was paid ahead."""
    shown = max(one.at for one in payments) - payments[0].at
    seconds = PRELOAD_SECONDS[job] + int(shown.total_seconds())
    rounded_up = len(payments) if job == "live" else 0
    billed = sum(one.units for one in payments)
    return Bound(
        f"units of {job}, EV {ev} wei", billed, seconds * PER_SECOND[job] + rounded_up, least=seconds
    )


def _step(world: World, job: str, ev: int) -> list[Billed]:
    """Run a session whose clock takes all the steps; what its store says of the payments."""
    now = START
    with _signer(world) as (signing, dsn):
        state = None
        for step in (0, *STEPS):
            now += timedelta(seconds=step)
            quote = QuoteMaker(
                now, price_per_unit=PRICE, pixels_per_unit=PER_SECOND[job], ev=ev, face_value=10 * ev
            )
            text = body(quote.text(), type=job, state=state)
            state = _pay(signing, text, now) or state
        with psycopg.connect(dsn) as connection:
            stored = [json.loads(bytes(row)) for (row,) in connection.execute(PAYMENTS)]
    return _read(stored)


def _pay(signing: Signing, text: str, now: datetime) -> Any:
    """The new state; None if nothing was due, or too much at once."""
    request = PaymentRequest("account-1", "key-1", None, None, text)
    [outcome] = signing.sign_all([request], now)
    if isinstance(outcome, AllowanceNeeded):
        [outcome] = signing.sign_all([request], now, {0: Grant(outcome.number, RICH)})
    if isinstance(outcome, str):
        return json.loads(outcome)["state"]
    assert isinstance(outcome, PaymentRefusal), outcome
    assert outcome.reason in NOT_PAID, outcome
    return None


def _read(stored: list[dict[str, Any]]) -> list[Billed]:
    payments: list[Billed] = []
    for event in stored:
        at = datetime.fromisoformat(event["timestamp"])
        before = payments[-1].at if payments else at
        payments.append(Billed(at, at - before, event["units"], event["tickets"]))
    return payments


@contextmanager
def _signer(world: World) -> Iterator[tuple[Signing, str]]:
    """A signer on a database of its own beside the running one's; with the DSN of that."""
    name = f"clock_{secrets.token_hex(4)}"
    databases.ensure_database(world.dsn(), name)
    databases.ensure_schemas(world.dsn(database=name), ["signer"])
    dsn = world.dsn("signer", database=name)
    payer = Payer(LocalKey(secrets.token_bytes(32)), lambda: chain_view(START))
    env = postgres_env(dsn, "signer", create_tables=True)
    signing = Signing([payer], StateSeal([secrets.token_bytes(32)]), Limits(), env)
    try:
        yield signing, dsn
    finally:
        signing.close()
        databases.drop_database(world.dsn(), name)
