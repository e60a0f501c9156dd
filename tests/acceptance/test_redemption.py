"""What we sign is money: a ticket redeems at the real TicketBroker, and only exactly as it was signed."""

import asyncio
import time
from base64 import b64encode
from typing import Any, NamedTuple

import pytest
from eth_account import Account as Wallet
from livepeer_gateway import lp_rpc_pb2 as pb
from web3 import Web3

from tests.acceptance.checks import settled
from tests.acceptance.system import System
from tests.acceptance.wire import Paid, Payer
from tilt.chain import world as chain_world
from tilt.chain.accounts import TransactionRevertedError, set_balance
from tilt.chain.local_chain import LocalChain, Ticket

pytestmark = pytest.mark.anyio

RECIPIENT_RAND = 0xC0FFEE_0000_0001
NEARLY_CERTAIN = 2**256 - 2  # of 2**256 - 1; one that is certain is not signed
FACE_VALUE_WEI = 10**12 + 7
PARAMS_LIFE_BLOCKS = 40
ETHER = 10**18


class Claim(NamedTuple):
    """What a recipient brings to the broker."""

    ticket: Ticket
    signature: bytes
    recipient_rand: int


class Recipient:
    """An orchestrator whose secret the test knows; somebody else pays its gas."""

    def __init__(self, chain: LocalChain) -> None:
        self.chain = chain
        self._key = "0x" + Wallet.create().key.hex()
        set_balance(chain.web3, Wallet.from_key(self._key).address, ETHER)

    def quote(self) -> str:
        """One ticket is due for what this asks, and it wins."""
        head = self.chain.web3.eth.block_number
        number, block_hash = self.chain.current_round()
        recipient = bytes.fromhex(self.chain.world.orchestrator.removeprefix("0x"))
        params = pb.TicketParams(
            recipient=recipient,
            face_value=_minimal(FACE_VALUE_WEI),
            win_prob=_minimal(NEARLY_CERTAIN),
            recipient_rand_hash=_hash(RECIPIENT_RAND),
            seed=_minimal(1),
            expiration_block=_minimal(head + PARAMS_LIFE_BLOCKS),
            expiration_params=pb.TicketExpirationParams(
                creation_round=number, creation_round_block_hash=block_hash
            ),
        )
        info = pb.OrchestratorInfo(
            transcoder="http://orchestrator.test",
            address=recipient,
            ticket_params=params,
            price_info=pb.PriceInfo(pricePerUnit=1, pixelsPerUnit=1),
            auth_token=pb.AuthToken(
                token=bytes(32), session_id="1a2b3c4d", expiration=int(time.time()) + 1800
            ),
        )
        return b64encode(info.SerializeToString()).decode()

    def redeem(self, claim: Claim) -> None:
        self.chain.redeem(claim.ticket, claim.signature, claim.recipient_rand, key=self._key)

    def is_refused(self, claim: Claim) -> bool:
        try:
            self.redeem(claim)
        except TransactionRevertedError:
            return True
        return False

    def is_used(self, ticket: Ticket) -> bool:
        return self.chain.used_tickets(self.chain.ticket_hash(ticket))


async def test_a_ticket_redeems_and_with_any_one_field_changed_it_does_not(system: System) -> None:
    recipient = await asyncio.to_thread(_recipient, system)
    # The second payer: winners of other tests are redeemed from the first one's deposit.
    payer = Payer(system, await system.open_account(payer=system.world.payers[1]))
    quote = await asyncio.to_thread(recipient.quote)
    paid = await payer.pay(await payer.challenge(), orchestrator=quote)
    claim = _claim(paid)
    before = await asyncio.to_thread(recipient.chain.sender_info, claim.ticket.sender)

    refused = {name: await asyncio.to_thread(recipient.is_refused, bad) for name, bad in _bad(claim).items()}
    unpaid = await asyncio.to_thread(recipient.chain.sender_info, claim.ticket.sender)
    await asyncio.to_thread(recipient.redeem, claim)
    after = await asyncio.to_thread(recipient.chain.sender_info, claim.ticket.sender)

    assert [name for name, was_refused in refused.items() if not was_refused] == []
    assert unpaid == before
    assert after.deposit == before.deposit - FACE_VALUE_WEI
    assert await asyncio.to_thread(recipient.is_used, claim.ticket)
    assert await asyncio.to_thread(recipient.is_refused, claim)
    assert (await settled(system, payer.account)).cost == FACE_VALUE_WEI


def _recipient(system: System) -> Recipient:
    made = chain_world.load(system.world.chain_directory)
    assert made is not None
    return Recipient(LocalChain(system.world.rpc_url, made))


def _claim(paid: Paid) -> Claim:
    """Take the payment apart, as an orchestrator does."""
    payment = paid.message
    params, expiration = payment.ticket_params, payment.expiration_params
    [(nonce, signature)] = [(one.sender_nonce, one.sig) for one in payment.ticket_sender_params]
    ticket = Ticket(
        recipient=Web3.to_checksum_address(params.recipient),
        sender=Web3.to_checksum_address(payment.sender),
        face_value=int.from_bytes(params.face_value),
        win_prob=int.from_bytes(params.win_prob),
        sender_nonce=nonce,
        recipient_rand_hash=params.recipient_rand_hash,
        aux_data=expiration.creation_round.to_bytes(32) + expiration.creation_round_block_hash,
    )
    return Claim(ticket, signature, RECIPIENT_RAND)


def _bad(claim: Claim) -> dict[str, Claim]:
    """The claim with each of its fields changed as little as can be, alone."""
    ticket, signature, rand = claim
    stranger = Wallet.create().address
    changes: dict[str, Any] = {
        "recipient": stranger,
        "sender": stranger,
        "face_value": ticket.face_value + 1,
        "win_prob": ticket.win_prob + 1,
        "sender_nonce": ticket.sender_nonce + 1,
        "recipient_rand_hash": _hash(rand + 1),
        "aux_data": _flip(ticket.aux_data, -1),
    }
    bad = {name: claim._replace(ticket=ticket._replace(**{name: value})) for name, value in changes.items()}
    other_rand = claim._replace(ticket=bad["recipient_rand_hash"].ticket, recipient_rand=rand + 1)
    return {
        **bad,
        "signature": claim._replace(signature=_flip(signature, 40)),
        "recipient_rand": claim._replace(recipient_rand=rand + 1),
        "recipient_rand and its hash": other_rand,
    }


def _flip(raw: bytes, place: int) -> bytes:
    """Change one bit."""
    changed = bytearray(raw)
    changed[place] ^= 1
    return bytes(changed)


def _hash(rand: int) -> bytes:
    return bytes(Web3.keccak(rand.to_bytes(32)))


def _minimal(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8)
