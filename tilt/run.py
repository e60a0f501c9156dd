"""`make run`: starts the whole system, pays one orchestrator through it, and says what happened.

With `--once` it stops then and prints a summary as its last line, one JSON object.
"""

import argparse
import asyncio
import json
import logging
import os
import shlex
import sys
import time
from pathlib import Path

import structlog
from livepeer_gateway.errors import LivepeerGatewayError

from tilt import demo
from tilt.api import TimedOutError, call, until
from tilt.child import NotReadyError
from tilt.slot import Slot, take
from tilt.supervisor import Supervisor
from tilt.world import World, is_torn

ROOT = Path(".local")
READY_SECONDS = 30.0
ENVIRONMENT = "env"  # to be read by a shell


def main() -> int:
    parser = argparse.ArgumentParser(prog="make run")
    parser.add_argument("--once", action="store_true", help="stop after one payment session")
    once = parser.parse_args().once
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )
    slot = take(ROOT)
    if is_torn(slot.directory):
        _say(f"{slot.directory} has only half of its state: beginning anew.")
        slot.wipe()
    try:
        return asyncio.run(_run(slot, once=once))
    except NotReadyError as problem:
        print(problem, file=sys.stderr)
        return 1
    finally:
        slot.release()


async def _run(slot: Slot, *, once: bool) -> int:
    started = time.monotonic()
    _say(f"Starting the clearinghouse in {slot.directory} ...")
    world = World(slot)
    world.prepare()
    outcome = None
    async with Supervisor(slot.directory) as supervisor:
        await start(world, supervisor)
        started_in_s = round(time.monotonic() - started, 2)
        _say(f"Everything is up after {started_in_s} s.\n")
        outcome = await _demonstrate(world)
        if outcome is not None and not once:
            _invite(world)
            await supervisor.wait()
    if outcome is None:
        return 1
    if once:
        print(_summary(outcome, started_in_s), flush=True)
    return 1 if outcome.problems else 0


async def start(world: World, supervisor: Supervisor) -> None:
    """Start all and return once a key could be issued and a payment made."""
    await supervisor.start(world.servers())
    await supervisor.start(world.services())

    async def pools_are_funded() -> bool:
        try:
            found = await call("GET", f"{world.public_url}/v1/pools", key=world.admin_key)
        except OSError:
            return False
        covered = {pool["payer"] for pool in found["pools"] if int(pool["cover_wei"])}
        return covered >= {*world.payers}

    await until("quota heard of the deposits", pools_are_funded, seconds=READY_SECONDS)


async def _demonstrate(world: World) -> demo.Outcome | None:
    customer = await demo.open_account(world)
    _say(f"Opened account {customer.account_id} and issued its API key.")
    _keep_environment(world, customer)
    _say("The official SDK now pays the local orchestrator through us, every three seconds ...")
    try:
        manifest_id = await demo.pay(world, customer)
        outcome = await demo.settle(world, customer, manifest_id)
    except (TimedOutError, LivepeerGatewayError, OSError) as problem:
        print(f"The payment session failed: {problem}", file=sys.stderr)
        print(f"What each process says of it is in {world.directory}/log", file=sys.stderr)
        return None
    _tell(outcome)
    _say(f"\nAPI key:   {customer.api_key}\nSDK token: {customer.sdk_token}")
    return outcome


def _keep_environment(world: World, customer: demo.Customer) -> None:
    """Write what a shell may read, for examples and the command; secrets are in it."""
    lines = [
        f"export {name}={shlex.quote(value)}\n" for name, value in demo.environment(world, customer).items()
    ]
    path = world.directory / ENVIRONMENT
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.writelines(lines)


def _tell(outcome: demo.Outcome) -> None:
    _say(
        f"""
Session {outcome.session_id}
  {outcome.payments} payments with {outcome.tickets} tickets were signed, for {outcome.cost_wei} wei;
  their expected value is {outcome.ev_wei} wei, the fee for the seconds used {outcome.fee_wei} wei.
  The orchestrator accepted {outcome.accepted} tickets and rejected {outcome.rejected}.
  {len(outcome.redeemed)} winners were redeemed at the real TicketBroker.
  Quota booked {outcome.spent_wei} wei, metering {outcome.usage_wei} wei."""
    )
    for problem in outcome.problems:
        print(f"  NOT RIGHT: {problem}", file=sys.stderr)


def _invite(world: World) -> None:
    _say(
        f"""
Open   {world.public_url}/docs          the API, as a page
       {world.public_url}/usage         what an account uses: sign in with its API key
       {world.orchestrator_url}/status       what the local orchestrator saw
Wire   {world.public_url}               the signer URL for SDK and go-livepeer
Admin  Authorization: Bearer {world.admin_key}
Chain  {world.rpc_url}               anvil with the real TicketBroker
Logs   {world.directory}/log
Shell  . {world.directory}/{ENVIRONMENT}          keys and URLs for the examples in docs/limits.md, and for
       .venv/bin/python -m services.cli --help    the `clearinghouse` command

Ctrl-C stops everything; the next `make run` finds this state again, `make clean` removes it."""
    )


def _summary(outcome: demo.Outcome, started_in_s: float) -> str:
    return json.dumps(
        {
            "ok": not outcome.problems,
            "payments": outcome.payments,
            "tickets": outcome.tickets,
            "tickets_accepted": outcome.accepted,
            "winners_redeemed": len(outcome.redeemed),
            "ev_wei": str(outcome.ev_wei),
            "cost_wei": str(outcome.cost_wei),
            "fee_wei": str(outcome.fee_wei),
            "usage_wei": str(outcome.usage_wei),
            "started_in_s": started_in_s,
            **({"problems": outcome.problems} if outcome.problems else {}),
        }
    )


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
