"""What we sign is money: a ticket redeems at the real TicketBroker, and only exactly as it was signed."""

import asyncio
import secrets
import time
from typing import Any

import pytest
from eth_account import Account as Wallet
from livepeer_gateway import lp_rpc_pb2 as pb

from tests.acceptance.checks import settled
from tests.acceptance.system import System
from tests.acceptance.wire import Challenge, Paid, Payer
from tilt.chain import world as chain_world
from tilt.chain.accounts import TransactionRevertedError, set_balance
from tilt.chain.local_chain import LocalChain, Ticket

pytestmark = pytest.mark.anyio

RECIPIENT_RAND = 0xC0FFEE_0000_0000_0000_0000_0001
NEARLY_CERTAIN = 2**256 - 2  # of 2**256 - 1; certain ones are not signed
FACE_VALUE_WEI = 10**12 + 7
ETHER = 10**18


@pytest.fixture
def chain(system: System) -> LocalChain:
    made = chain_world.load(system.world.chain_directory)
    assert made is not None
    return LocalChain(system.world.rpc_url, made)


async def test_a_ticket_redeems_and_none_with_a_changed_field_does(system: System, chain: LocalChain) -> None:
    payer = Payer(system, await system.open_account())
    quote = await asyncio.to_thread(_quote, chain)
    paid = await payer.pay(await payer.challenge(), orchestrator=quote.payment_params)
    await settled(system, payer.account)

    await asyncio.to_thread(_check_on_chain, chain, paid)


def _check_on_chain(chain: LocalChain, paid: Paid) -> None:
    ticket, [signature] = _ticket(paid), paid.tickets.values()
    key = _funded_key(chain)
    before = chain.sender_info(ticket.sender)

    for name, (changed, other_signature) in _changes(ticket, signature).items():
        with pytest.raises(TransactionRevertedError):
            chain.redeem(changed, other_signature, RECIPIENT_RAND, key=key)
            pytest.fail(f"redeemed with another {name}")
        assert not chain.used_tickets(chain.ticket_hash(changed)), name
    with pytest.raises(TransactionRevertedError):
        chain.redeem(ticket, signature, RECIPIENT_RAND + 1, key=key)
    assert chain.sender_info(ticket.sender) == before

    chain.redeem(ticket, signature, RECIPIENT_RAND, key=key)

    assert chain.used_tickets(chain.ticket_hash(ticket))
    assert chain.sender_info(ticket.sender).deposit == before.deposit - FACE_VALUE_WEI
    with pytest.raises(TransactionRevertedError, match="used"):
        chain.redeem(ticket, signature, RECIPIENT_RAND, key=key)


def _changes(ticket: Ticket, signature: bytes) -> dict[str, tuple[Ticket, bytes]]:
    """The ticket with each of its fields changed as little as can be, alone."""
    stranger = Wallet.create().address
    last_bit = bytes([*ticket.aux_data[:-1], ticket.aux_data[-1] ^ 1])
    fields: dict[str, Any] = {
        "recipient": stranger,
        "sender": stranger,
        "face_value": ticket.face_value + 1,
        "win_prob": ticket.win_prob + 1,
        "sender_nonce": ticket.sender_nonce + 1,
        "recipient_rand_hash": LocalChain.hash_of_rand(RECIPIENT_RAND + 1),
        "aux_data": last_bit,
    }
    changed = {name: (ticket._replace(**{name: value}), signature) for name, value in fields.items()}
    other = bytes([*signature[:40], signature[40] ^ 1, *signature[41:]])
    return {**changed, "signature": (ticket, other)}
