"""The command line."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tilt.orchestrator.chain import World
from tilt.orchestrator.offer import Model
from tilt.orchestrator.runners import Runner
from tilt.orchestrator.terms import Price, Terms
from tilt.orchestrator.tickets import Wei

# A second costs half a ticket and one ticket in four wins, so a minute of demo shows all of it.
TICKET_EV_WEI = 100_000_000_000
PRICE_PER_SECOND_WEI = 50_000_000_000
PRICE_PER_PIXEL_WEI = 1_800  # about the same for a second of 720p
FACE_VALUE_MULTIPLE = 4
CAPACITY = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    host: str
    port: int
    tls_port: int | None  # none: no gRPC, no HTTPS
    rpc_url: str
    world: World
    key: bytes = field(repr=False)
    state_dir: Path
    terms: Terms
    base_price: Price
    runners: list[Runner]
    models: list[Model]

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def tls_url(self) -> str | None:
        return None if self.tls_port is None else f"https://{self.host}:{self.tls_port}"


def read_settings(arguments: Sequence[str] | None = None) -> Settings:
    parser = _parser()
    options = parser.parse_args(arguments)
    face_value = options.face_value_wei or FACE_VALUE_MULTIPLE * options.ticket_ev_wei
    runners = [_first_runner(options), *options.runner]
    if len({runner.id for runner in runners}) < len(runners):
        parser.error("two runners have the same id")
    return Settings(
        host=options.host,
        port=options.port,
        tls_port=options.tls_port,
        rpc_url=options.rpc,
        world=World.from_json(json.loads(options.world.read_text())),
        key=read_key(options.key_file),
        state_dir=options.state_dir,
        terms=Terms(ticket_ev=Wei(options.ticket_ev_wei), face_value=Wei(face_value)),
        base_price=Price(options.base_price),
        runners=runners,
        models=options.model,
    )


def read_key(path: Path) -> bytes:
    """Read a private key written as 64 hex digits, with or without 0x."""
    return bytes.fromhex(path.read_text().strip().removeprefix("0x"))


def _first_runner(options: argparse.Namespace) -> Runner:
    return Runner(
        id="runner-1",
        app=options.app,
        price_per_unit=options.price_per_unit,
        pixels_per_unit=options.pixels_per_unit,
        capacity=options.capacity,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tilt.orchestrator", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="where to listen, and what URLs name")
    parser.add_argument("--port", type=int, required=True, help="plain HTTP")
    parser.add_argument("--tls-port", type=int, help="gRPC and HTTPS at one origin; default: neither")
    parser.add_argument("--rpc", required=True, help="JSON-RPC URL of the chain")
    parser.add_argument("--world", type=Path, required=True, help="contract addresses, as JSON")
    parser.add_argument("--key-file", type=Path, required=True, help="the recipient's private key")
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--ticket-ev-wei", type=int, default=TICKET_EV_WEI)
    parser.add_argument("--face-value-wei", type=int, help="default: 4 x the ticket EV")
    parser.add_argument("--base-price", type=int, default=PRICE_PER_PIXEL_WEI, help="wei for a pixel")
    first = parser.add_argument_group("the runner runner-1, which sells seconds")
    first.add_argument("--app", default="demo/echo")
    first.add_argument("--price-per-unit", type=int, default=PRICE_PER_SECOND_WEI)
    first.add_argument("--pixels-per-unit", type=int, default=1, help="seconds in a unit")
    first.add_argument("--capacity", type=int, default=CAPACITY)
    more = parser.add_argument_group("more on offer, each a JSON object, as often as wanted")
    more.add_argument("--runner", type=Runner.model_validate_json, action="append", default=[])
    more.add_argument("--model", type=Model.model_validate_json, action="append", default=[])
    return parser
