"""What stands on the local chain and where, kept beside the chain's state."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class World:
    """Addresses are EIP-55 text. Logs need not be searched before `first_block`."""

    chain_id: int
    first_block: int
    controller: str
    ticket_broker: str
    rounds_manager: str
    bonding_manager: str
    minter: str
    payer: str
    orchestrator: str


def load(directory: Path) -> World | None:
    """Return the world of this directory, None if there is none yet."""
    file = _file(directory)
    return World(**json.loads(file.read_text())) if file.exists() else None


def save(world: World, directory: Path) -> None:
    draft = _file(directory).with_suffix(".draft")
    draft.write_text(json.dumps(asdict(world), indent=2) + "\n")
    draft.replace(_file(directory))


def _file(directory: Path) -> Path:
    return directory / "world.json"
