"""The hand-written ABI against the selectors and topics seen on chain."""

import json
from pathlib import Path

import pytest
from eth_utils.abi import (
    abi_to_signature,
    event_abi_to_log_topic,
    filter_abi_by_type,
    function_abi_to_4byte_selector,
)

from contracts.livepeer import abi

ONCHAIN = json.loads((Path(__file__).parents[1] / "vectors.json").read_text())["onchain"]
ABI_BY_CONTRACT = {
    "Controller": abi.CONTROLLER,
    "TicketBroker": abi.TICKET_BROKER,
    "RoundsManager": abi.ROUNDS_MANAGER,
    "BondingManager": abi.BONDING_MANAGER,
}
BROKER_EVENTS = {
    "DepositFunded",
    "ReserveFunded",
    "ReserveClaimed",
    "WinningTicketRedeemed",
    "WinningTicketTransfer",
    "Unlock",
    "UnlockCancelled",
    "Withdrawal",
    "ParameterUpdate",
    "SetController",
}


@pytest.mark.parametrize("contract", ABI_BY_CONTRACT)
def test_every_function_has_the_selector_seen_on_chain(contract: str) -> None:
    selectors = {
        abi_to_signature(element): "0x" + function_abi_to_4byte_selector(element).hex()
        for element in filter_abi_by_type("function", ABI_BY_CONTRACT[contract])
    }

    assert selectors == {signature: ONCHAIN["selectors"][signature] for signature in selectors}


@pytest.mark.parametrize("contract", ABI_BY_CONTRACT)
def test_every_event_has_the_topic_seen_on_chain(contract: str) -> None:
    topics = {
        abi_to_signature(element): "0x" + event_abi_to_log_topic(element).hex()
        for element in filter_abi_by_type("event", ABI_BY_CONTRACT[contract])
    }

    assert topics == {signature: ONCHAIN["topics"][signature] for signature in topics}


def test_every_event_of_the_broker_is_known() -> None:
    assert {event["name"] for event in filter_abi_by_type("event", abi.TICKET_BROKER)} == BROKER_EVENTS
