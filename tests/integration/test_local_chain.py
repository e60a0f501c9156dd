"""The local chain: the real TicketBroker redeems what a payer signed."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from eth_account import Account
from hexbytes import HexBytes
from web3 import Web3
from web3.logs import DISCARD
from web3.types import TxReceipt

from contracts.livepeer import abi
from tests.integration.local_node import (
    ALWAYS,
    ETHER,
    PLAN,
    RECIPIENT_RAND,
    Node,
    address_of,
    new_key,
    redeem,
    running,
    signed,
    winning_ticket,
)
from tilt.chain.accounts import TransactionRevertedError, rpc, set_balance
from tilt.chain.deploy import deploy
from tilt.chain.local_chain import LocalChain, Round, Ticket
from tilt.chain.world import World


@pytest.fixture(scope="module")
def shared_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with running(tmp_path_factory.mktemp("chain")) as a_node:
        yield a_node


@pytest.fixture(scope="module")
def deployed(shared_node: Node) -> LocalChain:
    return shared_node.deploy(PLAN)


@pytest.fixture
def chain(deployed: LocalChain) -> Iterator[LocalChain]:
    """Give each test the chain as deployed."""
    snapshot = deployed.web3.provider.make_request("evm_snapshot", [])["result"]  # type: ignore[arg-type]
    yield deployed
    rpc(deployed.web3, "evm_revert", snapshot)


@pytest.fixture
def ticket(chain: LocalChain) -> Ticket:
    return winning_ticket(chain)


def ask_bonding(chain: LocalChain, signature: str, argument: bytes = b"") -> int:
    """Call the mock, whose ABI does not list what it answers."""
    question = Web3.keccak(text=signature)[:4] + argument
    return int.from_bytes(chain.web3.eth.call({"to": chain.bonding.address, "data": HexBytes(question)}))


def test_a_second_deployment_changes_nothing(chain: LocalChain, shared_node: Node) -> None:
    before = (chain.web3.eth.block_number, chain.sender_info(PLAN.payer))

    again = shared_node.deploy(PLAN)

    assert again.world == chain.world
    assert (chain.web3.eth.block_number, chain.sender_info(PLAN.payer)) == before


def test_a_deployment_for_another_payer_is_a_new_world(
    chain: LocalChain, shared_node: Node, tmp_path: Path
) -> None:
    other = replace(PLAN, payer_key=new_key())

    world = deploy(shared_node.url, tmp_path, other)

    assert world.payer == other.payer
    assert world.ticket_broker != chain.world.ticket_broker


def test_a_payer_added_to_a_world_is_funded_there_and_once(chain: LocalChain, shared_node: Node) -> None:
    second = new_key()
    plan = replace(PLAN, other_payer_keys=(second,))
    first_before = chain.sender_info(PLAN.payer)

    again = shared_node.deploy(plan)
    funded = again.sender_info(address_of(second))
    block = chain.web3.eth.block_number
    shared_node.deploy(plan)

    assert again.world == chain.world
    assert funded == (PLAN.deposit_wei, 0, PLAN.reserve_wei, 0)
    assert chain.sender_info(PLAN.payer) == first_before
    assert chain.web3.eth.block_number == block


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("TicketBroker", lambda world: world.ticket_broker),
        ("RoundsManager", lambda world: world.rounds_manager),
        ("BondingManager", lambda world: world.bonding_manager),
        ("Minter", lambda world: world.minter),
    ],
)
def test_the_controller_knows_every_contract(
    chain: LocalChain, name: str, address: Callable[[World], str]
) -> None:
    controller = chain.web3.eth.contract(Web3.to_checksum_address(chain.world.controller), abi=abi.CONTROLLER)

    found = controller.functions.getContract(Web3.keccak(text=name)).call()

    assert found == address(chain.world)


def test_the_world_is_ready_for_tickets(chain: LocalChain) -> None:
    rounds = chain.rounds.functions

    assert rounds.currentRoundInitialized().call()
    assert rounds.roundLength().call() == 1000
    assert chain.web3.eth.block_number - rounds.currentRoundStartBlock().call() < 150
    assert any(chain.current_round().block_hash)
    assert chain.broker.functions.ticketValidityPeriod().call() == 2
    assert chain.broker.functions.unlockPeriod().call() == 2
    assert chain.sender_info(PLAN.payer) == (PLAN.deposit_wei, 0, PLAN.reserve_wei, 0)


@pytest.mark.parametrize("question", ["isActiveTranscoder", "isRegisteredTranscoder"])
def test_one_orchestrator_is_active(chain: LocalChain, question: str) -> None:
    arguments = [bytes.fromhex(who[2:]).rjust(32, b"\0") for who in (PLAN.orchestrator, PLAN.payer)]

    answers = [ask_bonding(chain, f"{question}(address)", argument) for argument in arguments]

    assert answers == [1, 0]


def test_the_pool_has_a_hundred_places(chain: LocalChain) -> None:
    assert ask_bonding(chain, "getTranscoderPoolSize()") == 100


def test_a_winning_ticket_pays_the_orchestrator(chain: LocalChain, ticket: Ticket) -> None:
    broker = chain.web3.eth.contract(chain.broker.address, abi=abi.TICKET_BROKER)

    receipt = redeem(chain, ticket)

    [transfer] = broker.events.WinningTicketTransfer().process_receipt(receipt, DISCARD)
    [redeemed] = broker.events.WinningTicketRedeemed().process_receipt(receipt, DISCARD)
    [fees] = chain.bonding.events.UpdateTranscoderWithFees().process_receipt(receipt, DISCARD)
    parties = {"sender": PLAN.payer, "recipient": PLAN.orchestrator}
    assert transfer["args"] == parties | {"amount": ETHER + 3}
    assert redeemed["args"] == parties | {
        "faceValue": ETHER + 3,
        "winProb": ALWAYS,
        "senderNonce": 1,
        "recipientRand": RECIPIENT_RAND,
        "auxData": ticket.aux_data,
    }
    assert (fees["args"]["transcoder"], fees["args"]["fees"]) == (PLAN.orchestrator, ETHER + 3)
    assert fees["logIndex"] < transfer["logIndex"] < redeemed["logIndex"]
    assert chain.sender_info(PLAN.payer).deposit == PLAN.deposit_wei - ETHER - 3
    assert chain.used_tickets(chain.ticket_hash(ticket))


def test_fees_are_paid_out_in_ether(chain: LocalChain, ticket: Ticket) -> None:
    redeem(chain, ticket)
    before = chain.web3.eth.get_balance(PLAN.orchestrator)

    chain.withdraw_fees(PLAN.orchestrator, ticket.face_value)

    assert chain.web3.eth.get_balance(PLAN.orchestrator) == before + ticket.face_value


def test_a_shortfall_is_paid_from_the_reserve_up_to_one_share(chain: LocalChain, ticket: Ticket) -> None:
    redeem(chain, ticket._replace(face_value=10 * ETHER))

    share = PLAN.reserve_wei // 100
    assert chain.sender_info(PLAN.payer) == (0, 0, PLAN.reserve_wei - share, share)


def test_a_ticket_is_redeemed_once(chain: LocalChain, ticket: Ticket) -> None:
    redeem(chain, ticket)

    with pytest.raises(TransactionRevertedError) as refused:
        redeem(chain, ticket)

    assert refused.value.reason == "ticket is used"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"recipient": "0x" + "11" * 20}, "invalid signature over ticket hash"),
        ({"sender": "0x" + "22" * 20}, "invalid signature over ticket hash"),
        ({"face_value": ETHER + 4}, "invalid signature over ticket hash"),
        ({"win_prob": ALWAYS - 1}, "invalid signature over ticket hash"),
        ({"sender_nonce": 2}, "invalid signature over ticket hash"),
        ({"recipient_rand_hash": bytes(32)}, "recipientRand does not match recipientRandHash"),
        ({"aux_data": bytes(64)}, "ticket creationRound does not have a block hash"),
        ({"aux_data": b""}, "invalid length for ticket auxData: must be 64 bytes"),
    ],
)
def test_a_changed_ticket_is_refused(
    chain: LocalChain, ticket: Ticket, change: dict[str, object], reason: str
) -> None:
    signature = signed(chain, ticket)

    with pytest.raises(TransactionRevertedError) as refused:
        redeem(chain, ticket._replace(**change), signature)  # type: ignore[arg-type]

    assert refused.value.reason == reason


def test_a_losing_ticket_is_refused(chain: LocalChain, ticket: Ticket) -> None:
    with pytest.raises(TransactionRevertedError) as refused:
        redeem(chain, ticket._replace(win_prob=1))

    assert refused.value.reason == "ticket did not win"


def test_an_expired_ticket_is_refused(chain: LocalChain, ticket: Ticket) -> None:
    chain.initialize_next_round()
    chain.initialize_next_round()

    with pytest.raises(TransactionRevertedError) as refused:
        redeem(chain, ticket)

    assert refused.value.reason == "ticket is expired"


def test_a_payer_withdraws_two_rounds_after_unlocking(chain: LocalChain) -> None:
    now = chain.current_round().number
    chain.unlock(PLAN.payer_key)
    unlocking = chain.sender_info(PLAN.payer)
    chain.initialize_next_round()
    with pytest.raises(TransactionRevertedError):
        chain.withdraw(PLAN.payer_key)
    chain.initialize_next_round()
    before = chain.web3.eth.get_balance(PLAN.payer)

    receipt = chain.withdraw(PLAN.payer_key)

    gas = receipt["gasUsed"] * receipt["effectiveGasPrice"]
    assert unlocking.withdraw_round == now + 2
    assert chain.sender_info(PLAN.payer) == (0, now + 2, 0, 0)
    assert chain.web3.eth.get_balance(PLAN.payer) == before + PLAN.deposit_wei + PLAN.reserve_wei - gas


@pytest.mark.parametrize("cancel", [LocalChain.cancel_unlock, lambda chain, key: chain.fund_deposit(key, 5)])
def test_an_unlock_can_be_called_off(
    chain: LocalChain, cancel: Callable[[LocalChain, str], TxReceipt]
) -> None:
    chain.unlock(PLAN.payer_key)

    cancel(chain, PLAN.payer_key)

    assert chain.sender_info(PLAN.payer).withdraw_round == 0


def test_any_payer_can_fund(chain: LocalChain) -> None:
    key = new_key()
    payer = Account.from_key(key).address
    set_balance(chain.web3, payer, ETHER)

    chain.fund(key, deposit_wei=11, reserve_wei=13)

    assert chain.sender_info(payer) == (11, 0, 13, 0)


def test_the_next_round_has_its_parents_hash(chain: LocalChain) -> None:
    first = chain.current_round()

    second = chain.initialize_next_round()

    parent = chain.web3.eth.get_block(chain.web3.eth.block_number - 1)
    assert second == Round(first.number + 1, bytes(parent["hash"]))
    assert chain.rounds.functions.currentRoundInitialized().call()


@pytest.mark.skipif(not Path("/proc").exists(), reason="asks Linux which program a process is")
def test_the_node_is_anvil_itself(shared_node: Node) -> None:
    assert Path(f"/proc/{shared_node.process.pid}/exe").resolve().name == "anvil"
