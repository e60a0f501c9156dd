"""The local chain survives its node: stopped, or killed, also in the middle of a dump."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from web3 import Web3

from tests.integration.local_node import DEADLINE_SECONDS, PLAN, Node, redeem, running, winning_ticket
from tilt.chain.local_chain import LocalChain


@pytest.fixture
def own_node(tmp_path: Path) -> Iterator[Node]:
    with running(tmp_path) as a_node:
        yield a_node


def test_the_first_funds_are_final(own_node: Node) -> None:
    chain = own_node.deploy(PLAN)

    assert chain.sender_info(PLAN.payer, at="finalized") == (PLAN.deposit_wei, 0, PLAN.reserve_wei, 0)


def test_a_stopped_chain_goes_on_where_it_was(own_node: Node) -> None:
    chain = own_node.deploy(PLAN)
    chain.initialize_next_round()
    before = seen(chain)

    own_node.stop(signal.SIGTERM)
    own_node.start()

    assert seen(chain) == before
    assert own_node.deploy(PLAN).world == chain.world
    assert seen(chain) == before


def test_a_restarted_chain_redeems_and_opens_rounds(own_node: Node) -> None:
    chain = own_node.deploy(PLAN)
    ticket = winning_ticket(chain)
    own_node.stop(signal.SIGTERM)
    own_node.start()

    redeem(chain, ticket)
    opened = chain.initialize_next_round()

    assert chain.used_tickets(chain.ticket_hash(ticket))
    assert opened.block_hash == chain.web3.eth.get_block(chain.web3.eth.block_number - 1)["hash"]


def test_a_killed_chain_is_where_its_last_dump_was(own_node: Node) -> None:
    chain = own_node.deploy(PLAN)
    chain.fund_deposit(PLAN.payer_key, 5)
    before = seen(chain)
    wait_for_dump(own_node.directory)

    own_node.stop(signal.SIGKILL)
    own_node.start()

    assert seen(chain) == before


def test_a_chain_killed_within_a_dump_keeps_its_contracts(own_node: Node) -> None:
    chain = own_node.deploy(PLAN)
    before = seen(chain)
    chain.fund_deposit(PLAN.payer_key, 5)
    own_node.stop(signal.SIGKILL)
    (own_node.directory / "anvil.dump.json").write_text('{"block":')

    own_node.start()

    assert seen(chain) == before


def seen(chain: LocalChain) -> list[object]:
    """What a watcher knows of the chain: blocks, code, money, rounds and logs."""
    eth = chain.web3.eth
    latest = eth.block_number
    ours = (chain.world.ticket_broker, chain.world.minter, chain.world.payer)
    return [
        [eth.get_block(number)["hash"] for number in range(latest - 80, latest + 1)],
        [(eth.get_code(who), eth.get_balance(who)) for who in map(Web3.to_checksum_address, ours)],
        chain.sender_info(PLAN.payer, at="finalized"),
        chain.sender_info(PLAN.payer),
        chain.current_round(),
        eth.get_logs({"fromBlock": chain.world.first_block, "toBlock": latest}),
    ]


def wait_for_dump(directory: Path) -> None:
    dump, asked_at, deadline = directory / "anvil.dump.json", time.time(), time.monotonic() + DEADLINE_SECONDS
    while not (dump.exists() and dump.stat().st_mtime > asked_at and dump.read_text().endswith("}")):
        assert time.monotonic() < deadline, "no dump"
        time.sleep(0.02)
