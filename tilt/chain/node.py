"""The node of the local chain: how it starts on a directory, and when it answers.

Two files, because anvil does not write a dump in one piece and refuses to start from half of one:
it reads `anvil.json` and writes `anvil.dump.json`, which the next start takes over if it is whole.
A kill -9 loses what the last dump did not hold; one that hits the dump itself loses what came since
the start or the deployment (see `keep_state`).
"""

import argparse
import gzip
import json
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NoReturn

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


def command(*, port: int, directory: Path) -> list[str]:
    """Return the argv of the node. Run it in the project's root; restart it with the same one.

    The process becomes anvil itself, so that a signal to it reaches anvil.
    """
    return [sys.executable, "-m", "tilt.chain.node", "--port", str(port), "--dir", str(directory)]


def wait_until_ready(rpc_url: str, timeout_seconds: float) -> None:
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            request(rpc_url, "eth_chainId")
        except ChainUnreachableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECONDS)
        else:
            return


def request(rpc_url: str, method: str, *params: object) -> Any:  # whatever JSON the node answers
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    call = urllib.request.Request(rpc_url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(call, timeout=10) as answer:
            return json.load(answer)["result"]
    except (OSError, KeyError, ValueError) as problem:
        raise ChainUnreachableError(f"{rpc_url} does not answer {method}: {problem!r}") from problem


def keep_state(rpc_url: str, directory: Path) -> None:
    """Make the chain as it is now what the next start falls back on."""
    dump = gzip.decompress(bytes.fromhex(request(rpc_url, "anvil_dumpState")[2:]))
    draft = directory / "anvil.draft.json"
    draft.write_bytes(dump)
    draft.replace(directory / "anvil.json")


def _recovered_state(directory: Path) -> Path | None:
    state, dump = directory / "anvil.json", directory / "anvil.dump.json"
    if _is_whole(dump):
        dump.replace(state)
    return state if state.exists() else None


def _is_whole(dump: Path) -> bool:
    try:
        json.loads(dump.read_bytes())
    except (FileNotFoundError, ValueError):
        return False
    return True


def _anvil(tools: Tools, *, port: int, directory: Path) -> list[str]:
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
    argv = _anvil(install(), port=options.port, directory=options.dir.resolve())
    os.execv(argv[0], argv)


if __name__ == "__main__":
    main()
