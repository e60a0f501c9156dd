"""The command line."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tilt.orchestrator.chain import World
from tilt.orchestrator.quotes import Terms
from tilt.orchestrator.tickets import Wei

# A second costs half a ticket and one ticket in four wins, so a minute of demo shows all of it.
TICKET_EV_WEI = 100_000_000_000
PRICE_PER_SECOND_WEI = 50_000_000_000
FACE_VALUE_MULTIPLE = 4
CAPACITY = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    port: int
    rpc_url: str
    world: World
    key: bytes = field(repr=False)
    state_dir: Path
    terms: Terms
    app: str
    capacity: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def read_settings(arguments: Sequence[str] | None = None) -> Settings:
    options = _parser().parse_args(arguments)
    face_value = options.face_value_wei or FACE_VALUE_MULTIPLE * options.ticket_ev_wei
    terms = Terms(
        ticket_ev=Wei(options.ticket_ev_wei),
        face_value=Wei(face_value),
        price_per_unit=Wei(options.price_per_unit),
        pixels_per_unit=options.pixels_per_unit,
    )
    return Settings(
        port=options.port,
        rpc_url=options.rpc,
        world=World.from_json(json.loads(options.world.read_text())),
        key=read_key(options.key_file),
        state_dir=options.state_dir,
        terms=terms,
        app=options.app,
        capacity=options.capacity,
    )


def read_key(path: Path) -> bytes:
    """Read a private key written as 64 hex digits, with or without 0x."""
    return bytes.fromhex(path.read_text().strip().removeprefix("0x"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tilt.orchestrator", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rpc", required=True, help="JSON-RPC URL of the chain")
    parser.add_argument("--world", type=Path, required=True, help="contract addresses, as JSON")
    parser.add_argument("--key-file", type=Path, required=True, help="the recipient's private key")
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--ticket-ev-wei", type=int, default=TICKET_EV_WEI)
    parser.add_argument("--face-value-wei", type=int, help="default: 4 x the ticket EV")
    parser.add_argument("--price-per-unit", type=int, default=PRICE_PER_SECOND_WEI)
    parser.add_argument("--pixels-per-unit", type=int, default=1, help="seconds in a unit")
    parser.add_argument("--app", default="demo/echo")
    parser.add_argument("--capacity", type=int, default=CAPACITY)
    return parser
