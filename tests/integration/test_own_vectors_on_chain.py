"""Our own vectors, checked by the real TicketBroker and the chain's own signature recovery."""

import secrets
import signal
import socket
import subprocess
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path

import pytest
from web3 import Web3

from contracts.livepeer.payments_pb2 import Payment
from tests import own_vectors
from tilt.chain import node
from tilt.chain.deploy import Plan, deploy
from tilt.chain.local_chain import LocalChain, Ticket

ROOT = Path(__file__).parents[2]
DEADLINE_SECONDS = 30
ETHER = 10**18
RECOVER = Web3.to_checksum_address("0x" + "00" * 19 + "01")  # ecrecover, a precompiled contract


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalChain]:
    directory = tmp_path_factory.mktemp("chain")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(node.argv(port=port, directory=directory), cwd=ROOT)
    try:
        url = f"http://127.0.0.1:{port}"
        node.wait_until_ready(url, DEADLINE_SECONDS)
        keys = ["0x" + secrets.token_hex(32) for _ in range(2)]
        plan = Plan(payer_key=keys[0], orchestrator_key=keys[1], deposit_wei=ETHER, reserve_wei=ETHER)
        yield LocalChain(url, deploy(url, directory, plan))
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(DEADLINE_SECONDS)


def test_the_contract_makes_the_same_hashes_and_the_chain_finds_the_payer(chain: LocalChain) -> None:
    checked = 0
    for story in own_vectors.load()["stories"]:
        for step in story["steps"]:
            if step["answer"]["status"] == 200:
                checked += _check(chain, Payment.FromString(b64decode(step["answer"]["payment"])))

    assert checked > 40


def _check(chain: LocalChain, payment: Payment) -> int:
    params, expiration = payment.ticket_params, payment.expiration_params
    aux = expiration.creation_round.to_bytes(32) + expiration.creation_round_block_hash
    for signed in payment.ticket_sender_params:
        ticket = Ticket(
            recipient=Web3.to_checksum_address(params.recipient),
            sender=Web3.to_checksum_address(payment.sender),
            face_value=int.from_bytes(params.face_value),
            win_prob=int.from_bytes(params.win_prob),
            sender_nonce=signed.sender_nonce,
            recipient_rand_hash=params.recipient_rand_hash,
            aux_data=aux,
        )
        signer = _recover(chain, chain.ticket_hash(ticket), signed.sig)
        assert signer == payment.sender
        assert _recover(chain, chain.ticket_hash(ticket._replace(sender_nonce=0)), signed.sig) != signer
    return len(payment.ticket_sender_params)


def _recover(chain: LocalChain, ticket_hash: bytes, signature: bytes) -> bytes:
    """Whose signature it is, says the chain: of the EIP-191 message that is the ticket's hash."""
    digest = Web3.keccak(b"\x19Ethereum Signed Message:\n32" + ticket_hash)
    data = bytes(digest) + signature[64].to_bytes(32) + signature[:64]
    return bytes(chain.web3.eth.call({"to": RECOVER, "data": data}))[-20:]
