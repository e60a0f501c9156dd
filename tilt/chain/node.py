"""The node of the local chain: how it starts on a directory, and when it answers.

    Process("chain", node.argv(port=port, directory=directory), ready=lambda: node.is_ready(rpc_url))

Two files, because anvil does not write a dump in one piece and refuses to start from half of one:
it reads `anvil.json` and writes `anvil.dump.json`, which the next start takes over if it is whole.
A kill -9 loses what came after the last dump; one that hits the dump itself, what came after the
start or the deployment (`keep_state`). Of the states before the latest block only the last 64 are
known, before and after a restart; blocks, receipts and logs stay.
"""

import argparse
import asyncio
import gzip
import json
import os
import sys
import time
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import NoReturn

from tilt.chain.install import Tools, install

CHAIN_ID = 42161  # Arbitrum One's: anvil then gives its blocks an l1BlockNumber

# Far from 0, where round 0 can never be initialised; a round is 1000 blocks.
GENESIS_BLOCK = 4_000_000

# Ticket watchers read at `finalized`, 64 blocks back; anvil has no other history.
STATES_KEPT = 64
DUMP_INTERVAL_SECONDS = 5
POLL_SECONDS = 0.02


class ChainUnreachableError(Exception):
    """The node does not answer."""


def argv(*, port: int, directory: Path) -> list[str]:
    """Return the command of the node. Run it in the project's root; restart it with the same one.

    The process becomes anvil itself, so that a signal to it reaches anvil.
    """
    return [sys.executable, "-m", "tilt.chain.node", "--port", str(port), "--dir", str(directory)]


async def is_ready(rpc_url: str) -> bool:
    return await asyncio.to_thread(answers, rpc_url)


def wait_until_ready(rpc_url: str, timeout_seconds: float) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not answers(rpc_url):
        if time.monotonic() > deadline:
            raise ChainUnreachableError(f"no chain {CHAIN_ID} at {rpc_url} within {timeout_seconds:g} s")
        time.sleep(POLL_SECONDS)


def answers(rpc_url: str) -> bool:
    try:
        return request(rpc_url, "eth_chainId") == hex(CHAIN_ID)
    except ChainUnreachableError:
        return False


def request(rpc_url: str, method: str, *params: object) -> str:
    """Ask the node for one value, without the weight of web3."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    call = urllib.request.Request(rpc_url, body, {"Content-Type": "application/json"})  # noqa: S310 - our node
    try:
        with urllib.request.urlopen(call, timeout=10) as answer:  # noqa: S310 - our node
            return str(json.load(answer)["result"])
    except (OSError, HTTPException, KeyError, ValueError) as problem:
        raise ChainUnreachableError(f"{rpc_url} does not answer {method}: {problem!r}") from problem


def keep_state(rpc_url: str, directory: Path) -> None:
    """Make the chain as it is now what the next start falls back on."""
    with_older_states = True
    packed = request(rpc_url, "anvil_dumpState", with_older_states)
    dump = gzip.decompress(bytes.fromhex(packed.removeprefix("0x")))
    draft = directory / "anvil.draft.json"
    draft.write_bytes(dump)
    draft.replace(directory / "anvil.json")


def _recovered_state(directory: Path) -> Path | None:
    state, dump = directory / "anvil.json", directory / "anvil.dump.json"
    if _is_whole(dump) and _written_at(dump) > _written_at(state):
        dump.replace(state)
    dump.unlink(missing_ok=True)
    return state if state.exists() else None


def _written_at(file: Path) -> int:
    return file.stat().st_mtime_ns if file.exists() else 0


def _is_whole(dump: Path) -> bool:
    try:
        json.loads(dump.read_bytes())
    except (FileNotFoundError, ValueError):
        return False
    return True


def _anvil_argv(tools: Tools, *, port: int, directory: Path) -> list[str]:
    arguments = {
        "--host": "127.0.0.1",
        "--port": port,
        "--chain-id": CHAIN_ID,
        "--hardfork": "cancun",
        "--number": GENESIS_BLOCK,
        "--prune-history": STATES_KEPT,
        "--dump-state": directory / "anvil.dump.json",
        "--state-interval": DUMP_INTERVAL_SECONDS,
    }
    if state := _recovered_state(directory):
        arguments["--load-state"] = state
    flags = [str(part) for argument in arguments.items() for part in argument]
    return [str(tools.anvil), *flags, "--preserve-historical-states", "--quiet"]


def main() -> NoReturn:
    parser = argparse.ArgumentParser(prog="python -m tilt.chain.node")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--dir", type=Path, required=True)
    options = parser.parse_args()
    options.dir.mkdir(parents=True, exist_ok=True)
    command = _anvil_argv(install(), port=options.port, directory=options.dir.resolve())
    os.execv(command[0], command)  # noqa: S606 - no shell wanted


if __name__ == "__main__":
    main()
