"""The command `python -m tilt.chain deploy`."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from tilt.chain.deploy import Plan, deploy


def main() -> None:
    options = _parser().parse_args()
    payer_key, *other_payer_keys = [path.read_text().strip() for path in options.payer_key_file]
    plan = Plan(
        payer_key=payer_key,
        orchestrator_key=options.orchestrator_key_file.read_text().strip(),
        deposit_wei=options.deposit_wei,
        reserve_wei=options.reserve_wei,
        pool_size=options.pool_size,
        other_payer_keys=tuple(other_payer_keys),
    )
    world = deploy(options.rpc, options.dir, plan)
    print(json.dumps(asdict(world)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tilt.chain")
    commands = parser.add_subparsers(required=True)
    deployment = commands.add_parser("deploy", help="put Livepeer's contracts on the chain, once")
    deployment.add_argument("--rpc", required=True, metavar="URL")
    deployment.add_argument("--dir", required=True, type=Path)
    deployment.add_argument(
        "--payer-key-file", required=True, type=Path, action="append", help="again for each other payer"
    )
    deployment.add_argument("--orchestrator-key-file", required=True, type=Path)
    deployment.add_argument("--deposit-wei", required=True, type=int)
    deployment.add_argument("--reserve-wei", required=True, type=int)
    deployment.add_argument("--pool-size", default=Plan.pool_size, type=int)
    return parser


if __name__ == "__main__":
    main()
