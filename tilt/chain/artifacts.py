"""Livepeer's compiled contracts, as the SDK ships them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDERS = {
    "TicketBroker": "pm",
    "RoundsManager": "rounds",
    "Minter": "token",
    "BondingManager": "bonding",
    "BondingManagerMock": "test/mocks",
    "GenericMock": "test/mocks",
}


@dataclass(frozen=True)
class Artifact:
    abi: list[Any]  # the compiler's JSON, as web3 takes it
    bytecode: str


def load(contracts: Path, name: str) -> Artifact:
    file = contracts / FOLDERS.get(name, ".") / f"{name}.sol" / f"{name}.json"
    compiled = json.loads(file.read_text())
    return Artifact(compiled["abi"], compiled["bytecode"])
