"""The local chain as its users see it: payers fund, orchestrators redeem, rounds pass."""

from typing import NamedTuple

from web3 import HTTPProvider, Web3
from web3.contract import Contract
from web3.types import BlockParams, TxReceipt

from tilt.chain import artifacts
from tilt.chain.accounts import rpc, send, send_as_owner
from tilt.chain.install import install
from tilt.chain.world import World


class Ticket(NamedTuple):
    """The contract's tuple, in its order; any tuple of this shape can be redeemed."""

    recipient: str
    sender: str
    face_value: int
    win_prob: int
    sender_nonce: int
    recipient_rand_hash: bytes
    aux_data: bytes


class SenderInfo(NamedTuple):
    deposit: int
    withdraw_round: int
    reserve: int
    claimed_in_current_round: int


class Round(NamedTuple):
    number: int
    block_hash: bytes


class LocalChain:
    def __init__(self, rpc_url: str, world: World) -> None:
        self.web3 = Web3(HTTPProvider(rpc_url))
        self.world = world
        contracts = install().contracts

        def contract(name: str, address: str) -> Contract:
            abi = artifacts.load(contracts, name).abi
            return self.web3.eth.contract(Web3.to_checksum_address(address), abi=abi)

        self.broker = contract("TicketBroker", world.ticket_broker)
        self.rounds = contract("RoundsManager", world.rounds_manager)
        self.bonding = contract("BondingManagerMock", world.bonding_manager)
        self.minter = contract("Minter", world.minter)

    def fund(self, payer_key: str, *, deposit_wei: int, reserve_wei: int) -> TxReceipt:
        """Add to deposit and reserve; like any funding by the payer, it cancels an unlock."""
        call = self.broker.functions.fundDepositAndReserve(deposit_wei, reserve_wei)
        return send(self.web3, call, key=payer_key, value_wei=deposit_wei + reserve_wei)

    def fund_deposit(self, payer_key: str, deposit_wei: int) -> TxReceipt:
        return send(self.web3, self.broker.functions.fundDeposit(), key=payer_key, value_wei=deposit_wei)

    def unlock(self, payer_key: str) -> TxReceipt:
        return send(self.web3, self.broker.functions.unlock(), key=payer_key)

    def cancel_unlock(self, payer_key: str) -> TxReceipt:
        return send(self.web3, self.broker.functions.cancelUnlock(), key=payer_key)

    def withdraw(self, payer_key: str) -> TxReceipt:
        return send(self.web3, self.broker.functions.withdraw(), key=payer_key)

    def sender_info(self, payer: str, *, at: BlockParams = "latest") -> SenderInfo:
        sender, reserve = self.broker.functions.getSenderInfo(payer).call(block_identifier=at)
        return SenderInfo(*sender, *reserve)

    def redeem(self, ticket: Ticket, signature: bytes, recipient_rand: int, *, key: str) -> TxReceipt:
        """Redeem a winning ticket, sent and its gas paid by the owner of `key`."""
        call = self.broker.functions.redeemWinningTicket(tuple(ticket), signature, recipient_rand)
        return send(self.web3, call, key=key)

    def ticket_hash(self, ticket: Ticket) -> bytes:
        return bytes(self.broker.functions.getTicketHash(tuple(ticket)).call())

    def used_tickets(self, ticket_hash: bytes) -> bool:
        return bool(self.broker.functions.usedTickets(ticket_hash).call())

    def withdraw_fees(self, orchestrator: str, amount_wei: int) -> TxReceipt:
        """Pay fees out of the Minter, as BondingManager does for an orchestrator who asks.

        The mock keeps no account of fees, so the caller says how much; the Minter's ETH is the limit.
        """
        payment = self.minter.encode_abi("trustedWithdrawETH", [orchestrator, amount_wei])
        return send_as_owner(self.web3, self.bonding.functions.execute(self.minter.address, payment))

    def mine(self, blocks: int) -> None:
        rpc(self.web3, "anvil_mine", hex(blocks))

    def current_round(self) -> Round:
        """Return the last initialized round, with the hash that tickets of it carry."""
        number = self.rounds.functions.lastInitializedRound().call()
        return Round(number, bytes(self.rounds.functions.blockHashForRound(number).call()))

    def initialize_next_round(self) -> Round:
        """Let the running round end, and open the next."""
        start = self.rounds.functions.currentRoundStartBlock().call()
        length = self.rounds.functions.roundLength().call()
        self.mine(start + length - self.web3.eth.block_number)
        return self._initialize_round()

    def ensure_round_initialized(self) -> Round:
        if self.rounds.functions.currentRoundInitialized().call():
            return self.current_round()
        # A restarted anvil invents the BLOCKHASH of blocks from before; the round stores its parent's.
        self.mine(1)
        return self._initialize_round()

    def _initialize_round(self) -> Round:
        send_as_owner(self.web3, self.rounds.functions.initializeRound())
        return self.current_round()
