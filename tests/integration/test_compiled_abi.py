"""Our hand-written ABI against what Livepeer's compiler says."""

from collections.abc import Mapping
from typing import Any

import pytest
from eth_utils.abi import abi_to_signature

from contracts.livepeer import abi
from tilt.chain import artifacts
from tilt.chain.install import install


@pytest.mark.parametrize(
    ("ours", "name"),
    [
        (abi.CONTROLLER, "Controller"),
        (abi.TICKET_BROKER, "TicketBroker"),
        (abi.ROUNDS_MANAGER, "RoundsManager"),
        (abi.BONDING_MANAGER, "BondingManager"),
    ],
)
def test_every_element_is_the_compilers(ours: list[Any], name: str) -> None:
    theirs = [shape(element) for element in artifacts.load(install().contracts, name).abi]

    assert [element for element in map(shape, ours) if element not in theirs] == []


def shape(element: Mapping[str, Any]) -> object:
    """What decides over encoding and decoding, without the names of parameters."""
    if element["type"] not in {"function", "event"}:
        return element["type"]
    indexed = [parameter.get("indexed") for parameter in element["inputs"]]
    returned = [kind(parameter) for parameter in element.get("outputs", ())]
    return abi_to_signature(element), indexed, returned, element.get("stateMutability")  # type: ignore[arg-type]


def kind(parameter: Mapping[str, Any]) -> object:
    return [kind(member) for member in parameter.get("components", ())] or parameter["type"]
