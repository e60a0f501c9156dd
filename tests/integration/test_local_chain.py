"""The local chain: the real TicketBroker redeems what a payer signed, and survives its node."""

import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_typing import ChecksumAddress
from hexbytes import HexBytes
from web3 import Web3
from web3.logs import DISCARD
from web3.types import TxReceipt

from contracts.livepeer import abi
from tilt.chain import node
from tilt.chain.accounts import TransactionRevertedError, rpc, set_balance
from tilt.chain.deploy import Plan, deploy
from tilt.chain.local_chain import LocalChain, Round, Ticket
from tilt.chain.world import World

ROOT = Path(__file__).parents[2]
ALWAYS = 2**256 - 1
RECIPIENT_RAND = 0xC0FFEE
ETHER = 10**18
DEADLINE_SECONDS = 20


def new_key() -> str:
    return "0x" + secrets.token_hex(32)


def address_of(key: str) -> ChecksumAddress:
    return ChecksumAddress(Account.from_key(key).address)


PLAN = Plan(
    payer_key=new_key(), orchestrator_key=new_key(), deposit_wei=3 * ETHER + 1, reserve_wei=200 * ETHER + 7
)


class Node:
    """A node on a free port; it may be stopped and started again."""

    def __init__(self, directory: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.directory = directory
        self.url = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        self.process = subprocess.Popen(node.argv(port=self._port, directory=self.directory), cwd=ROOT)
        node.wait_until_ready(self.url, DEADLINE_SECONDS)

    def stop(self, how: signal.Signals) -> None:
        self.process.send_signal(how)
        self.process.wait(DEADLINE_SECONDS)

    def deploy(self, plan: Plan) -> LocalChain:
        return LocalChain(self.url, deploy(self.url, self.directory, plan))


@contextmanager
def running(directory: Path) -> Iterator[Node]:
    a_node = Node(directory)
    a_node.start()
    try:
        yield a_node
    finally:
        a_node.stop(signal.SIGKILL)


@pytest.fixture(scope="module")
def shared_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with running(tmp_path_factory.mktemp("chain")) as a_node:
        yield a_node


@pytest.fixture(scope="module")
def deployed(shared_node: Node) -> LocalChain:
    return shared_node.deploy(PLAN)


@pytest.fixture
def own_node(tmp_path: Path) -> Iterator[Node]:
    with running(tmp_path) as a_node:
        yield a_node


@pytest.fixture
def chain(deployed: LocalChain) -> Iterator[LocalChain]:
    """Give each test the chain as deployed."""
    snapshot = deployed.web3.provider.make_request("evm_snapshot", [])["result"]  # type: ignore[arg-type]
    yield deployed
    rpc(deployed.web3, "evm_revert", snapshot)


@pytest.fixture
def ticket(chain: LocalChain) -> Ticket:
    return winning_ticket(chain)


def winning_ticket(chain: LocalChain) -> Ticket:
    number, block_hash = chain.current_round()
    return Ticket(
        recipient=PLAN.orchestrator,
        sender=PLAN.payer,
        face_value=ETHER + 3,
        win_prob=ALWAYS,
        sender_nonce=1,
        recipient_rand_hash=bytes(Web3.keccak(RECIPIENT_RAND.to_bytes(32, "big"))),
        aux_data=number.to_bytes(32, "big") + block_hash,
    )


def signed(chain: LocalChain, ticket: Ticket) -> bytes:
    message = encode_defunct(primitive=chain.ticket_hash(ticket))
    return bytes(Account.sign_message(message, PLAN.payer_key).signature)


def redeem(chain: LocalChain, ticket: Ticket, signature: bytes | None = None) -> TxReceipt:
    signature = signature or signed(chain, ticket)
    return chain.redeem(ticket, signature, RECIPIENT_RAND, key=PLAN.orchestrator_key)


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


@pytest.mark.skipif(not Path("/proc").exists(), reason="asks Linux which program a process is")
def test_the_node_is_anvil_itself(shared_node: Node) -> None:
    assert Path(f"/proc/{shared_node.process.pid}/exe").resolve().name == "anvil"


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
