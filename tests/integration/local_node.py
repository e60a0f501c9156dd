"""A node of the local chain with the contracts on it, and a ticket that wins there."""

import secrets
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eth_account import Account
from eth_account.messages import encode_defunct
from eth_typing import ChecksumAddress
from web3 import Web3
from web3.types import TxReceipt

from tilt.chain import node
from tilt.chain.deploy import Plan, deploy
from tilt.chain.local_chain import LocalChain, Ticket

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

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
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
